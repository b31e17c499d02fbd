//! JSON Schemas that publishers declare, and what is checked against them.

use serde_json::Value;

/// Problems that are told of one value at most.
const PROBLEMS_MAX: usize = 5;

/// Characters of one of them.
const PROBLEM_MAX_CHARS: usize = 300;

/// A schema that was found usable.
pub struct Schema {
    validator: jsonschema::Validator,
    bytes: usize,
}

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is not JSON.
    #[error("{file} is not JSON: {problem}")]
    NotJson {
        /// The file in the package.
        file: String,
        /// Why.
        problem: String,
    },
    /// It is JSON, but no schema.
    #[error("{file} is not a JSON Schema that can be used: {problem}")]
    NotSchema {
        /// The file in the package.
        file: String,
        /// Why.
        problem: String,
    },
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Schema")
    }
}

impl Schema {
    /// Reads a schema (draft 2020-12 where it does not say otherwise). References lead nowhere but into itself.
    ///
    /// # Errors
    /// [`SchemaError`], naming `file`.
    pub fn parse(file: &str, text: &str) -> Result<Self, SchemaError> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| SchemaError::NotJson { file: file.into(), problem: error.to_string() })?;
        let validator = jsonschema::validator_for(&value)
            .map_err(|error| SchemaError::NotSchema { file: file.into(), problem: error.to_string() })?;
        Ok(Self { validator, bytes: text.len() })
    }

    /// How much work the check of a value of so many bytes may be: the two sizes multiplied.
    pub fn work(&self, value_bytes: usize) -> usize {
        self.bytes.saturating_mul(value_bytes)
    }

    /// What is wrong with a value, one sentence each; empty when nothing is.
    pub fn problems(&self, value: &Value) -> Vec<String> {
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        let problem = |error: jsonschema::ValidationError<'_>| {
            let at = error.instance_path().to_string();
            let text = if at.is_empty() { error.to_string() } else { format!("{at}: {error}") };
            // The value itself is part of it, however long.
            match text.char_indices().nth(PROBLEM_MAX_CHARS) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        };
        self.validator.iter_errors(value).take(PROBLEMS_MAX).map(problem).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_long_value_is_not_repeated() {
        let schema = Schema::parse("s", r#"{"maxLength": 2}"#).unwrap();
        let problems = schema.problems(&json!("x".repeat(10_000)));
        assert!(problems[0].chars().count() <= PROBLEM_MAX_CHARS + 1, "{}", problems[0].len());
    }

    #[test]
    fn tells_where_and_what() {
        let schema = Schema::parse(
            "config.schema.json",
            r#"{"type":"object","required":["hub"],"properties":{"hub":{"type":"string"},"n":{"type":"integer"}},"additionalProperties":false}"#,
        )
        .unwrap();
        assert!(schema.problems(&json!({"hub": "SEA"})).is_empty());
        assert!(schema.problems(&json!({}))[0].contains("hub"));
        assert!(schema.problems(&json!({"hub": "SEA", "n": "x"}))[0].starts_with("/n: "));
    }

    #[test]
    fn refuses_what_is_none() {
        assert!(matches!(Schema::parse("s", "{"), Err(SchemaError::NotJson { .. })));
        assert!(matches!(Schema::parse("s", r#"{"type": 3}"#), Err(SchemaError::NotSchema { .. })));
        // Nothing is fetched.
        assert!(Schema::parse("s", r#"{"$ref": "http://127.0.0.1:1/x"}"#).is_err());
    }
}
