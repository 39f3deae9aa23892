//! Enums that have one spelling everywhere: in the database, in JSON and on a command line.

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
            type Err = $crate::Error;

            fn from_str(text: &str) -> Result<Self, $crate::Error> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err($crate::Error::Unknown {
                        what: $what,
                        value: text.into(),
                        expected: &[$($text),*],
                    }),
                }
            }
        }
    };
}

pub(crate) use text_enum;
