//! The one table of what can be wrong with a request. The types of problem documents are made from it, and the
//! page `deploy/problems.md`.

use std::fmt;

/// What the address of each problem's type begins with.
const TYPES: &str = "urn:dpg:problem:";

/// Declares [`Code`]: a line says what it means, then come its name, its word, its HTTP status, and what to do.
macro_rules! codes {
    ($($(#[doc = $meaning:literal])* $name:ident = $word:literal, $status:literal, $remedy:literal;)*) => {
        /// What is wrong with a request, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $meaning])* $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its word, as in `not-found`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The HTTP status of its answers.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// What it means.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($meaning),*).trim_ascii(),)* }
            }

            /// What to do about it, where the problem itself knows nothing better.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)* }
            }
        }
    };
}

codes! {
    /// The body cannot be read as what it is sent as.
    MalformedBody = "malformed-body", 400, "send JSON as RFC 8259 has it, in UTF-8";
    /// The address holds what is not plain text.
    InvalidAddress = "invalid-address", 400, "escape what is not plain text in an address";
    /// The address does not have such parameters, or not with such values.
    InvalidQuery = "invalid-query", 400, "`/v1/openapi.json` lists the parameters of this address";
    /// The idempotency key cannot be one.
    InvalidKey = "invalid-key", 400, "a key has 1 to 255 visible ASCII characters";
    /// What the address names cannot be a name.
    InvalidName = "invalid-name", 400,
        "a name has 1 to 128 letters, digits, `.`, `_` and `-`, and begins with a letter or digit";
    /// The request has no token, or one that is unknown, expired or revoked.
    Unauthorized = "unauthorized", 401,
        "send `Authorization: Bearer TOKEN`, or set DPG_TOKEN for the command line; `dpg token create` makes a token, \
         and the data folder's `admin.token` holds the first one";
    /// The token does not allow this.
    Forbidden = "forbidden", 403, "use a token that does; `dpg token list` shows what each is for";
    /// The address, or what it names, does not exist.
    NotFound = "not-found", 404, "`/v1/openapi.json` lists what there is";
    /// The address does not have this method.
    MethodNotAllowed = "method-not-allowed", 405, "the header `allow` lists the methods of this address";
    /// The request took too long.
    Timeout = "timeout", 408, "send it again; for large answers ask for less at a time";
    /// The state of what is named does not allow this, or a name or key is taken.
    Conflict = "conflict", 409, "look at its state and repeat";
    /// The version was retired to make room: its files are gone.
    Gone = "gone", 410, "`GET /v1/datasets/{name}` lists its versions";
    /// The body is larger than the daemon takes.
    BodyTooLarge = "body-too-large", 413, "send less, or raise `limits.body_bytes` in the daemon's settings";
    /// The body is sent as something that is not read here.
    UnsupportedMediaType = "unsupported-media-type", 415, "send `content-type: application/json`";
    /// The range is outside of the file.
    RangeNotSatisfiable = "range-not-satisfiable", 416, "ask for a range inside the file";
    /// The body is JSON, and not what this address takes.
    InvalidBody = "invalid-body", 422, "`/v1/openapi.json` has the schema of this body";
    /// The spec is not valid; `errors` lists each thing that is wrong with it.
    InvalidSpec = "invalid-spec", 422,
        "mend what `errors` lists; `dpg plan SPEC` checks a spec without submitting it";
    /// A value of the body cannot be what it is for.
    InvalidValue = "invalid-value", 422, "correct the value";
    /// The token's quota is used up.
    QuotaUsed = "quota-used", 429, "wait until some have ended";
    /// Too many requests came with this token, or too many without a good one from this address.
    TooManyRequests = "too-many-requests", 429,
        "wait as long as `retry-after` says, or raise `limits.requests_per_minute` in the daemon's settings";
    /// The token follows as many jobs as it may.
    TooManyStreams = "too-many-streams", 429,
        "end one of them, or raise `limits.streams_per_token` in the daemon's settings";
    /// The daemon failed.
    Internal = "internal", 500,
        "its log has the cause under this problem's `instance`; report it if it happens again";
    /// The queue or the store does not answer.
    Unavailable = "unavailable", 503, "try again in a few seconds; `/readyz` says when it is back";
    /// The request was refused for another reason, with another status.
    Refused = "refused", 400, "`/v1/openapi.json` says what is expected";
}

impl Code {
    /// The address of the problem's type, as in `urn:dpg:problem:not-found`.
    pub fn uri(self) -> String {
        format!("{TYPES}{self}")
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
