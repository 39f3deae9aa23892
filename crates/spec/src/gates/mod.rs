//! What refuses rows of a dataset, a file each: settings, what they say of themselves, an example. `dpg-engine` has a
//! file of the same name that looks at the rows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Code, Fault, NamedProgram, schema, syntax::member};

/// Calls `$then!` with every gate: its file, here and in `dpg-engine`, its kind, and its settings.
#[macro_export]
macro_rules! gates {
    ($then:ident) => {
        $then! {
            duplicates: Duplicates(Duplicates),
            held_out_overlap: HeldOutOverlap(HeldOutOverlap),
            language: Language(Languages),
            length: Length(TokenRange),
            regex: Regex(Pattern),
            json: Json(JsonShape),
            program: Program(Checker),
        }
    };
}

/// What a gate's settings say of themselves. Keys are those below the gate's own.
pub trait GateSettings {
    /// What is wrong with a row that it refuses, after "refused because": the same words for all of them.
    fn reason(&self, code: Code) -> String;

    /// What is wrong with settings each of which is in order.
    fn faults(&self) -> Vec<Fault> {
        vec![]
    }

    /// The program that it names, to be read or given its command.
    fn program(&mut self) -> Option<NamedProgram<'_>> {
        None
    }
}

macro_rules! declare {
    ($($file:ident: $kind:ident($settings:ident),)*) => {
        $(mod $file; pub use $file::*;)*

        /// What a row has to pass to be published. A row that it refuses is counted, and others are drawn in its place, as
        /// far as `output.draws` goes.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        #[expect(missing_docs, reason = "the settings say what each is, in the schema as well")]
        pub enum Gate {
            $($kind($settings),)*
        }

        impl Gate {
            /// What is common to the settings of all kinds.
            pub fn settings(&self) -> &dyn GateSettings {
                match self {
                    $(Self::$kind(settings) => settings,)*
                }
            }

            fn settings_mut(&mut self) -> &mut dyn GateSettings {
                match self {
                    $(Self::$kind(settings) => settings,)*
                }
            }
        }
    };
}

gates!(declare);

pub(crate) use regex::pattern_fault;

impl Gate {
    /// What is wrong with its settings, by keys below `path`.
    pub(crate) fn faults_below(&self, path: &str) -> Vec<Fault> {
        let below = |fault: Fault| Fault { path: member(path, &fault.path), ..fault };
        self.settings().faults().into_iter().map(below).collect()
    }

    /// The program that it names, by its key below `path`.
    pub(crate) fn program_below(&mut self, path: &str) -> Option<NamedProgram<'_>> {
        let program = self.settings_mut().program()?;
        Some(NamedProgram { key: member(path, &program.key), ..program })
    }

    /// One of every kind: the example that its documentation gives.
    pub fn examples() -> Vec<Self> {
        let lists: Vec<Vec<Self>> = schema::examples("Gate", "gates");
        lists.into_iter().flatten().collect()
    }
}
