//! `sipguard agent`.

use anyhow::Result;
use sipguard::agent;

use super::{Context, needs_root};

pub(super) fn run(context: &Context) -> Result<()> {
    needs_root()?;
    Ok(agent::run(&context.host, &context.config)?)
}
