//! What the reader of an error can do about it.

/// An error whose text says what is wrong, and which may know what its reader can do about it.
///
/// ```
/// # use dpg_spec::Hint;
/// #[derive(Debug, thiserror::Error)]
/// #[error("there is no dataset `{0}`")]
/// struct Absent(String);
///
/// impl Hint for Absent {
///     fn hint(&self) -> Option<String> {
///         Some("`dpg datasets` lists those there are".into())
///     }
/// }
///
/// let absent = Absent("six".into());
/// assert_eq!(absent.told(), "there is no dataset `six`; `dpg datasets` lists those there are");
/// ```
pub trait Hint: std::error::Error {
    /// What to do about it.
    fn hint(&self) -> Option<String>;

    /// What is wrong and what to do, in one line.
    fn told(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{self}; {hint}"),
            None => self.to_string(),
        }
    }
}
