//! Words that have one spelling everywhere: in JSON, in the queue's database and on a command line.

/// A word outside a fixed list.
#[derive(Debug, thiserror::Error)]
#[error("`{value}` is not {what}; expected one of {}", expected.join(", "))]
pub struct UnknownWord {
    /// What was looked for, with its article.
    what: &'static str,
    /// What was written.
    value: String,
    /// The words there are.
    expected: &'static [&'static str],
}

/// Declares an enum with `as_str`, `ALL`, `Display`, `FromStr` and serde, all from one spelling.
macro_rules! text_enum {
    (
        $(#[$meta:meta])*
        $name:ident ($what:literal) { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The spelling.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(UnknownWord {
                        what: $what,
                        value: text.into(),
                        expected: &[$($text),*],
                    }),
                }
            }
        }
    };
}

text_enum! {
    /// Where a job stands.
    #[derive(PartialOrd, Ord)]
    State("a state") {
        /// Waits for a worker, or for its time.
        Queued = "queued",
        /// A worker has it, or had it and its lease has not run out yet.
        Running = "running",
        /// Ended well.
        Succeeded = "succeeded",
        /// Ended badly, for good: a permanent error, or no attempts left.
        Failed = "failed",
        /// Ended because it was told to.
        Cancelled = "cancelled",
    }
}

impl State {
    /// Whether the job has ended; only a retry brings it back.
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

text_enum! {
    /// What happens when a schedule is due while a job of it has not ended.
    Overlap("an overlap policy") {
        /// The new job is left out.
        Skip = "skip",
        /// The new job waits for the old one to end.
        Queue = "queue",
        /// The old job is cancelled; the new one runs when it has stopped.
        Replace = "replace",
    }
}

text_enum! {
    /// What happens to the due times that passed while no daemon was there.
    Catchup("a catch-up policy") {
        /// They are forgotten.
        None = "none",
        /// The newest is made up for.
        One = "one",
        /// All are made up for, up to the newest 100.
        All = "all",
    }
}

text_enum! {
    /// How far a webhook's call is.
    DeliveryState("a state of a delivery") {
        /// Not answered yet; it is tried again and again.
        Pending = "pending",
        /// The receiver took it.
        Delivered = "delivered",
        /// It is not tried any more.
        GivenUp = "given_up",
    }
}

text_enum! {
    /// What a token allows.
    Scope("a scope") {
        /// Looking at jobs and datasets.
        Read = "read",
        /// Submitting, cancelling and retrying jobs.
        Submit = "submit",
        /// Everything, with schedules' and tokens' management.
        Admin = "admin",
    }
}
