//! `[events]`: what is not kept of those who knock.

use super::document::{Document, Value};
use crate::policy::Hide;

pub(super) fn read(document: &mut Document<'_>, value: &Value<'_>) -> Hide {
    /// What can be hidden.
    #[derive(Clone, Copy)]
    enum What {
        Number,
        User,
    }
    let mut hidden = Hide::default();
    let Some(table) = document.table(value, "events", "[events]") else {
        return hidden;
    };
    let [hide] = document.fields(table, "[events]", ["hide"]);
    let example = "hide = [\"number\", \"user\"]";
    for value in hide.map_or(&[][..], |hide| document.array(hide, "hide", example)) {
        let choices = [("number", What::Number), ("user", What::User)];
        match document.choice(value, "what is hidden", &choices) {
            Some(What::Number) => hidden.number = true,
            Some(What::User) => hidden.user = true,
            None => {}
        }
    }
    hidden
}
