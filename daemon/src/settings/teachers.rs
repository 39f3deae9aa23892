//! Teachers behind an API: a spec names one, and the settings say what the name stands for.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::bail;
use dpg_api::Fault;
use dpg_spec::{Connection, Spec, Teacher};

/// The settings' teachers by their names.
pub(crate) type Teachers = BTreeMap<String, Teacher>;

/// What is wrong with the first teacher of a spec that the settings do not name, if there is one.
pub(crate) fn fault(spec: &mut Spec, teachers: &Teachers) -> Option<Fault> {
    let named = spec.generator.as_mut()?.teachers_below("generator");
    let (at, api) = named.into_iter().find(|(_, api)| !teachers.contains_key(&api.teacher))?;
    let known = teachers.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() { "there is none".into() } else { format!("those here are {known}") };
    let message = format!(
        "`{}` is not a teacher of this machine; {known}. Its operator names them under `teachers` in `dpg.toml`",
        api.teacher
    );
    Some(Fault { path: format!("{at}.teacher"), line: None, message })
}

/// Tells a spec what its teachers' names stand for, and in which folder a run keeps what they answer.
pub(crate) fn connect(spec: &mut Spec, teachers: &Teachers, answers: Option<&Path>) -> anyhow::Result<()> {
    if let Some(fault) = fault(spec, teachers) {
        bail!("`{}`: {}", fault.path, fault.message);
    }
    let named = spec.generator.as_mut().map(|generator| generator.teachers_below("generator"));
    for (_, api) in named.into_iter().flatten() {
        let teacher = teachers.get(&api.teacher).cloned();
        api.connection = teacher.map(|teacher| Connection { teacher, answers: answers.map(Into::into) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use dpg_spec::Syntax;

    use super::*;

    #[test]
    fn a_spec_names_a_teacher_of_the_settings_and_nothing_else_of_it() {
        let text = "name = 'a'\nmetric = { kind = 'weight_norm' }\n[target]\nmodel = 'embedded:target'\n[policy]\nsteps = 0\n\
                    [generator]\nkind = 'api'\nteacher = 'near'\nmodel = 'm'\nmax_completion_tokens = 8\n";
        let mut spec = Spec::parse(text, Syntax::Toml).unwrap();
        let none = connect(&mut spec, &Teachers::new(), None).unwrap_err().to_string();
        assert!(
            none.contains("`generator.teacher`: `near` is not a teacher") && none.contains("there is none"),
            "{none}"
        );
        let teacher: Teacher = toml::from_str("base_url = 'https://example.com/v1'").unwrap();
        let teachers = Teachers::from([("near".to_owned(), teacher)]);
        connect(&mut spec, &teachers, Some("run".as_ref())).unwrap();
        let connection = spec.generator.as_ref().unwrap().teachers()[0].connection.clone().unwrap();
        assert_eq!((connection.teacher, connection.answers), (teachers["near"].clone(), Some("run".into())));
        // and what is published of it is what was submitted
        assert!(!spec.to_toml().unwrap().contains("example.com"));
        for secret in
            ["base_url = 'https://evil.example'", "api_key_env = 'AWS_SECRET_ACCESS_KEY'", "connection = {}"]
        {
            let error = Spec::parse(&format!("{text}{secret}\n"), Syntax::Toml).unwrap_err().to_string();
            assert!(error.contains("unknown key"), "{error}");
        }
    }
}
