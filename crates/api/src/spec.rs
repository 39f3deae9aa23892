//! Specs before they are submitted.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A spec that would be taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CheckedSpec {
    /// The dataset's name.
    pub name: String,
    /// The spec with every default filled in.
    pub resolved: Value,
    /// The keys that its author wrote, as in `policy.steps`.
    pub written: Vec<String>,
}

/// A spec to begin with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Template {
    /// Its name.
    pub name: String,
    /// What it is for, as its author says.
    pub description: String,
    /// The spec as TOML.
    pub spec: String,
}

/// The specs that the program brings with it, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TemplateList {
    /// The specs.
    pub templates: Vec<Template>,
}
