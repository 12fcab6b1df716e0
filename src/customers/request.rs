//! What a merchant sends about a customer, checked field by field.

use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    ContactPerson, TaxTreatment,
    customer::{Address, Change},
};
use crate::{
    http::{ApiError, Violations, check_length, check_name, metadata_violations, openapi::Metadata},
    kit::money::Currency,
};

const MAX_NAME: usize = 255;
const MAX_EMAIL: usize = 254;
const MAX_CONTACT: usize = 20;
const MAX_CONTACT_PERSONS: usize = 50;

/// The members of a customer.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "UpdateCustomerRequest")]
#[serde(default)]
pub struct CustomerRequest {
    #[schemars(length(min = 1, max = 255))]
    external_id: Option<String>,
    #[schemars(length(min = 1, max = 255))]
    name: Option<String>,
    #[schemars(length(max = 254))]
    email: Option<String>,
    #[schemars(length(max = 20))]
    contact: Option<String>,
    #[schemars(length(max = 255))]
    address_line1: Option<String>,
    #[schemars(length(max = 255))]
    address_line2: Option<String>,
    #[schemars(length(max = 100))]
    address_city: Option<String>,
    #[schemars(length(max = 100))]
    address_state: Option<String>,
    #[schemars(length(max = 20))]
    address_postal_code: Option<String>,
    /// ISO 3166-1 alpha-2.
    address_country: Option<String>,
    /// ISO 4217, any letter case.
    billing_currency: Option<String>,
    /// What the implementation guide calls `billing_currency`.
    currency: Option<String>,
    /// An IANA name; `UTC` if not given.
    timezone: Option<String>,
    tax_treatment: Option<TaxTreatment>,
    contact_persons: Option<Vec<ContactPerson>>,
    #[schemars(with = "Option<Metadata>")]
    metadata: Option<Map<String, Value>>,
}

impl CustomerRequest {
    /// For a new customer, which must have a name and an external id.
    pub fn parse_new(self) -> Result<Change, ApiError> {
        let mut violations = Violations::default();
        violations.require(self.external_id.is_some(), "external_id", "is required");
        violations.require(self.name.is_some(), "name", "is required");
        self.parse(violations)
    }

    /// For a customer that exists.
    pub fn parse_change(self) -> Result<Change, ApiError> {
        self.parse(Violations::default())
    }

    fn parse(self, mut violations: Violations) -> Result<Change, ApiError> {
        check_name(&mut violations, "external_id", self.external_id.as_deref(), MAX_NAME);
        check_name(&mut violations, "name", self.name.as_deref(), MAX_NAME);
        for (field, text, max) in [
            ("contact", &self.contact, MAX_CONTACT),
            ("address_line1", &self.address_line1, 255),
            ("address_line2", &self.address_line2, 255),
            ("address_city", &self.address_city, 100),
            ("address_state", &self.address_state, 100),
            ("address_postal_code", &self.address_postal_code, 20),
        ] {
            check_length(&mut violations, field, text.as_deref(), max);
        }
        check_email(&mut violations, "email", self.email.as_deref());
        if let Some(metadata) = &self.metadata {
            metadata_violations(&mut violations, "metadata", metadata);
        }
        if let Some(persons) = &self.contact_persons {
            check_persons(&mut violations, persons);
        }
        let billing_currency = match self.billing_currency {
            Some(code) => read_currency(&mut violations, "billing_currency", &code),
            None => self.currency.and_then(|code| read_currency(&mut violations, "currency", &code)),
        };
        let timezone = self.timezone.and_then(|name| read_timezone(&mut violations, &name));
        let country = self.address_country.map(|country| read_country(&mut violations, &country));
        violations.finish()?;
        Ok(Change {
            external_id: self.external_id,
            name: self.name,
            email: self.email,
            contact: self.contact,
            address: Address {
                line1: self.address_line1,
                line2: self.address_line2,
                city: self.address_city,
                state: self.address_state,
                postal_code: self.address_postal_code,
                country,
            },
            billing_currency,
            timezone,
            tax_treatment: self.tax_treatment,
            contact_persons: self.contact_persons,
            metadata: self.metadata.map(Value::Object),
        })
    }
}

/// The empty text stands for none and passes.
fn check_email(violations: &mut Violations, field: &str, email: Option<&str>) {
    let fits = email.is_none_or(|email| email.is_empty() || is_email(email));
    violations.require(fits, field, "must be an email address");
}

/// The shape of an address; whether it exists only a mail can tell.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '@' | '<' | '>' | ',');
    !local.is_empty()
        && text.len() <= MAX_EMAIL
        && local.chars().all(plain)
        && domain.chars().all(plain)
        && domain.contains('.')
        && domain.split('.').all(|label| !label.is_empty())
}

fn check_persons(violations: &mut Violations, persons: &[ContactPerson]) {
    violations.require(
        persons.len() <= MAX_CONTACT_PERSONS,
        "contact_persons",
        "must have at most 50 people",
    );
    for (index, person) in persons.iter().enumerate() {
        let name = |field| format!("contact_persons[{index}].{field}");
        check_name(violations, &name("first_name"), Some(&person.first_name), MAX_NAME);
        check_email(violations, &name("email"), person.email.as_deref());
        for (field, text) in [
            ("id", &person.id),
            ("last_name", &person.last_name),
            ("mobile", &person.mobile),
            ("designation", &person.designation),
            ("department", &person.department),
            ("salutation", &person.salutation),
        ] {
            check_length(violations, &name(field), text.as_deref(), MAX_NAME);
        }
    }
}

fn read_currency(violations: &mut Violations, field: &str, code: &str) -> Option<Currency> {
    if code.is_empty() {
        return None;
    }
    code.parse().map_err(|rule: crate::kit::money::MoneyError| violations.add(field, rule.to_string())).ok()
}

fn read_timezone(violations: &mut Violations, name: &str) -> Option<Tz> {
    if name.is_empty() {
        return None;
    }
    let timezone = name.parse().ok();
    violations.require(timezone.is_some(), "timezone", "must be an IANA time zone such as Asia/Kolkata");
    timezone
}

fn read_country(violations: &mut Violations, country: &str) -> String {
    let fits = country.is_empty() || (country.len() == 2 && country.bytes().all(|b| b.is_ascii_alphabetic()));
    violations.require(fits, "address_country", "must be two letters such as IN");
    country.to_ascii_uppercase()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]
mod tests {
    use super::*;

    #[test]
    fn emails_have_the_shape_of_one() {
        for text in ["j@e.com", "jane.o'neil+tag@mail.example.co.in", "ü@exämple.de"] {
            assert!(is_email(text), "{text}");
        }
        for text in [
            "",
            "j",
            "@e.com",
            "j@",
            "j@e",
            "j@.com",
            "j@e.",
            "j@e..com",
            "j@@e.com",
            "a b@e.com",
            "<j@e.com>",
        ] {
            assert!(!is_email(text), "{text}");
        }
        assert!(!is_email(&format!("{}@e.com", "j".repeat(250))));
    }

    #[test]
    fn one_answer_names_every_wrong_field() {
        let request: CustomerRequest = serde_json::from_value(serde_json::json!({
            "external_id": "",
            "name": "n".repeat(256),
            "email": "nobody",
            "contact": "1".repeat(21),
            "address_line1": "a".repeat(256),
            "address_line2": "a".repeat(256),
            "address_city": "a".repeat(101),
            "address_state": "a".repeat(101),
            "address_postal_code": "1".repeat(21),
            "address_country": "IND",
            "billing_currency": "XXX",
            "timezone": "Mars/Olympus",
            "contact_persons": [{"first_name": "", "email": "x", "mobile": "m".repeat(256)}],
            "metadata": {"k": "v".repeat(501)},
        }))
        .unwrap();
        let error = format!("{:?}", request.parse_new().unwrap_err());
        for field in [
            "external_id",
            "name",
            "email",
            "contact",
            "address_line1",
            "address_line2",
            "address_city",
            "address_state",
            "address_postal_code",
            "address_country",
            "billing_currency",
            "timezone",
            "contact_persons[0].first_name",
            "contact_persons[0].email",
            "contact_persons[0].mobile",
            "metadata.k",
        ] {
            assert!(error.contains(&format!("\"{field}\"")), "{field}: {error}");
        }
    }

    #[test]
    fn the_guides_currency_is_kept_unless_billing_currency_is_there() {
        let parse = |body| serde_json::from_value::<CustomerRequest>(body).unwrap().parse_change().unwrap();
        let change = parse(serde_json::json!({"currency": "INR"}));
        assert_eq!(change.billing_currency.map(Currency::code), Some("INR"));
        let change = parse(serde_json::json!({"currency": "INR", "billing_currency": "usd"}));
        assert_eq!(change.billing_currency.map(Currency::code), Some("USD"));
    }
}
