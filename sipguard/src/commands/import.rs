//! `sipguard import`.

use std::{
    fs,
    io::{self, Read as _, Write},
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use sipguard::import;

use super::Context;
use crate::cli::Import;

/// No rule set is so large; a file that is was given by mistake.
const LARGEST: u64 = 1 << 30;

pub(super) fn run(import: &Import, context: &Context, out: &mut dyn Write) -> Result<()> {
    let name = match import.file.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => import.file.display().to_string(),
    };
    let text = read(&import.file).with_context(|| format!("cannot read {name}"))?;
    let imported = import::import(
        &text,
        import.from.map(Into::into),
        import.action.map(Into::into),
    )
    .with_context(|| name.clone())?;
    out.write_all(imported.config.as_bytes())?;
    for note in &imported.notes {
        context.warn(&format!("not translated: {name}: {note}"));
    }
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes)
    } else {
        fs::File::open(file)?
            .take(LARGEST + 1)
            .read_to_end(&mut bytes)
    };
    if read? as u64 > LARGEST {
        bail!("it is larger than 1 GiB");
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid]
            .split(|byte| *byte == b'\n')
            .count();
        anyhow::anyhow!("line {line} is not UTF-8")
    })
}
