//! The life of a row, as opposed to the business state of what it describes.

/// The `status` column of every table whose rows are archived rather than deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RowStatus {
    /// In use.
    Published,
    /// Kept for those that point at it, hidden otherwise.
    Archived,
}

impl RowStatus {
    /// As in the tables and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Archived => "archived",
        }
    }

    /// Reads a column that a CHECK keeps to the two values.
    pub fn from_column(text: &str) -> Self {
        if text == "published" { Self::Published } else { Self::Archived }
    }
}
