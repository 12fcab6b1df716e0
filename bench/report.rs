//! What a run found, as Markdown; written into `docs/performance.md` between its markers.

use std::{fmt::Write, fs, path::Path};

use anyhow::Context;

use super::{load::Outcome, usage::Cpu};

const BEGIN: &str = "<!-- cargo bench writes from here -->";
const END: &str = "<!-- to here -->";

/// One measurement.
#[derive(Debug, Default)]
pub struct Figures {
    pub count: usize,
    pub per_second: f64,
    /// Milliseconds.
    pub p50: Option<f64>,
    /// Milliseconds.
    pub p99: Option<f64>,
    pub cpu: Cpu,
    /// Of all the processor time that there was, the share that neither the service nor the bench used.
    pub others: f64,
}

impl Figures {
    pub fn new(outcome: &Outcome, cpu: Cpu) -> Self {
        let (count, elapsed) = (outcome.count(), outcome.elapsed.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let (per_second, cores) =
            (count as f64 / elapsed, std::thread::available_parallelism().map_or(1, usize::from) as f64);
        let (p50, p99) = (outcome.latencies.at(0.5), outcome.latencies.at(0.99));
        Self { count, per_second, p50, p99, cpu, others: cpu.others().as_secs_f64() / elapsed / cores }
    }

    /// Seconds of processor time for each 1,000.
    fn per_thousand(&self, used: std::time::Duration) -> String {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let count = self.count.max(1) as f64;
        format!("{:.2}", used.as_secs_f64() * 1000.0 / count)
    }
}

/// A line of the table.
#[derive(Debug)]
pub struct Row {
    pub what: String,
    pub clients: Option<usize>,
    pub service: Figures,
    /// The same without the service.
    pub beside: Option<Figures>,
    pub note: String,
}

#[derive(Debug, Default)]
pub struct Report {
    /// The machine, the versions, the settings.
    pub about: Vec<String>,
    /// Single figures, with what they are.
    pub singles: Vec<(String, String)>,
    pub rows: Vec<Row>,
    /// Others, as Markdown.
    pub tables: Vec<String>,
}

impl Report {
    pub fn single(&mut self, what: impl Into<String>, figure: impl Into<String>) {
        let (what, figure) = (what.into(), figure.into());
        eprintln!("{what}: {figure}");
        self.singles.push((what, figure));
    }

    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for line in &self.about {
            let _ = writeln!(text, "- {line}");
        }
        text.push_str("\n| | |\n|---|---|\n");
        for (what, figure) in &self.singles {
            let _ = writeln!(text, "| {what} | {figure} |");
        }
        text.push_str(
            "\nCPU is seconds of processor time per 1,000; latencies are milliseconds; \"others\" is the share of the machine that neither \
             the service nor the bench used, with what the hypervisor took.\n\n\
             | | clients | /s | p50 | p99 | CPU service | CPU Postgres | CPU doubles | CPU generator | others \
             | floor /s | p50 | p99 | CPU Postgres | CPU client | ratio | |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n",
        );
        for row in &self.rows {
            text.push_str(&row.markdown());
        }
        text.extend(self.tables.iter().map(String::as_str));
        text
    }

    /// Puts it where the last one was.
    pub fn write(&self) -> anyhow::Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
        let page = fs::read_to_string(&path)?;
        let (before, rest) =
            page.split_once(BEGIN).context("docs/performance.md has lost its first marker")?;
        let (_, after) = rest.split_once(END).context("docs/performance.md has lost its second marker")?;
        fs::write(path, format!("{before}{BEGIN}\n\n{}\n{END}{after}", self.markdown()))?;
        Ok(())
    }
}

impl Row {
    pub fn markdown(&self) -> String {
        let Self { what, clients, service, beside, note } = self;
        let clients = clients.map_or_else(|| "–".to_owned(), |clients| clients.to_string());
        let mut line = format!(
            "| {what} | {clients} | {:.0} | {} | {} | {} | {} | {} | {} | {:.0} % ",
            service.per_second,
            milliseconds(service.p50),
            milliseconds(service.p99),
            service.per_thousand(service.cpu.service),
            service.per_thousand(service.cpu.postgres),
            service.per_thousand(service.cpu.doubles),
            service.per_thousand(service.cpu.generator),
            service.others * 100.0,
        );
        match beside {
            Some(floor) => {
                let client = floor.cpu.pgbench + floor.cpu.generator + floor.cpu.doubles;
                let _ = write!(
                    line,
                    "| {:.0} | {} | {} | {} | {} | **{:.2}** ",
                    floor.per_second,
                    milliseconds(floor.p50),
                    milliseconds(floor.p99),
                    floor.per_thousand(floor.cpu.postgres),
                    floor.per_thousand(client),
                    service.per_second / floor.per_second,
                );
            }
            None => line.push_str("| | | | | | "),
        }
        let _ = writeln!(line, "| {note} |");
        line
    }
}

pub fn milliseconds(figure: Option<f64>) -> String {
    figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.2}"))
}
