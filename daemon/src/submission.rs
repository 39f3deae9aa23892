//! A spec's text becomes a job of the queue.

use dpg_api::Fault;
use dpg_queue::NewJob;
use dpg_spec::{Error, Spec, Syntax};

use crate::{allow, config::Config};

/// Reads a spec as it was submitted: JSON if it begins with `{`, which TOML does not.
pub(crate) fn parse(text: &str) -> Result<Spec, Error> {
    let syntax = if text.trim_start().starts_with('{') { Syntax::Json } else { Syntax::Toml };
    Spec::parse(text, syntax)
}

/// The job that a spec's text asks for, or everything that is wrong with the text.
pub(crate) fn job(text: &str, config: &Config) -> Result<NewJob, Vec<Fault>> {
    let spec = parse(text).map_err(faults)?;
    spec.generator().map_err(faults)?;
    let refused = allow::faults(&spec, &config.allow);
    if !refused.is_empty() {
        return Err(refused);
    }
    let resolved = serde_json::to_string(&spec)
        .map_err(|error| vec![Fault { path: String::new(), line: None, message: error.to_string() }])?;
    Ok(NewJob {
        name: spec.name.clone(),
        key: None,
        spec: text.into(),
        resolved,
        spec_sha256: spec.sha256(),
        priority: 0,
        max_attempts: config.worker.max_attempts,
        not_before: None,
        schedule: None,
        due: None,
    })
}

fn faults(error: Error) -> Vec<Fault> {
    let whole = |message: String| vec![Fault { path: String::new(), line: None, message }];
    match error {
        Error::Invalid(problems) => {
            let fault = |problem: dpg_spec::Problem| Fault {
                path: problem.path,
                line: problem.line,
                message: problem.message,
            };
            problems.into_iter().map(fault).collect()
        }
        Error::Toml(source) => whole(format!("not valid TOML: {}", source.to_string().trim_end())),
        Error::Json(source) => whole(format!("not valid JSON: {source}")),
        error => whole(error.to_string()),
    }
}
