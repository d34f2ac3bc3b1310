//! The findings as a config file, each line with its evidence.

use std::io::{self, Write};

use super::{
    Findings, Proposal,
    findings::{Refused, Source},
};
use crate::prose::count;

/// How many of those that are not let in are shown.
const SHOWN: usize = 50;

impl Source {
    /// Its name in the config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Providers => "providers",
            Self::Phones => "phones",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Providers => {
                "Who answers this gateway's calls and registrations, and who calls it and is answered."
            }
            Self::Phones => {
                "Who registered here with success. Where phones roam, their addresses change."
            }
        }
    }
}

impl Findings {
    /// Writes them as a config file. `from` says where they come from, and `interface` is guarded by it, where there is one.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write_config(
        &self,
        out: &mut dyn Write,
        from: &str,
        interface: Option<&str>,
    ) -> io::Result<()> {
        writeln!(
            out,
            "# Learned by `sipguard learn` from {from}: {} in {}.",
            count(self.messages, "SIP message", "SIP messages"),
            count(self.packets, "packet", "packets")
        )?;
        writeln!(
            out,
            "# It is a proposal: look at every line before you apply it, and add who administers this host."
        )?;
        self.write_gaps(out)?;
        if self.proposals.is_empty() {
            writeln!(out, "#\n# Nobody was found who should be let in.")?;
        } else {
            writeln!(out, "\n# The interfaces that lead to the internet.")?;
            match interface {
                Some(name) => writeln!(out, "interfaces = [{name:?}]")?,
                None => writeln!(out, "interfaces = []")?,
            }
            writeln!(out, "\n[sources]")?;
            for source in [Source::Providers, Source::Phones] {
                self.write_source(out, source)?;
            }
            self.write_service(out)?;
        }
        self.write_refused(out)
    }

    /// Which addresses are this gateway's, and what is not known.
    fn write_gaps(&self, out: &mut dyn Write) -> io::Result<()> {
        let own: Vec<_> = self.own.iter().map(ToString::to_string).collect();
        if !own.is_empty() {
            writeln!(out, "# This gateway is taken to be {}.", own.join(", "))?;
        }
        if let Some((one, other)) = self.unclear.first() {
            writeln!(
                out,
                "# Left out: {}, such as {one} and {other}, of which nothing says which one is this gateway; name its address with --own.",
                count(self.unclear.len(), "pair", "pairs")
            )?;
        }
        if self.left_out > 0 {
            writeln!(
                out,
                "# Left out: {} of whom nothing was known that would let anybody in, to make room for others.",
                count(self.left_out, "pair", "pairs")
            )?;
        }
        Ok(())
    }

    fn of(&self, source: Source) -> impl Iterator<Item = &Proposal> {
        self.proposals
            .iter()
            .filter(move |proposal| proposal.source == source)
    }

    fn write_source(&self, out: &mut dyn Write, source: Source) -> io::Result<()> {
        if self.of(source).next().is_none() {
            return Ok(());
        }
        writeln!(out, "# {}", source.title())?;
        writeln!(out, "{} = [", source.name())?;
        for proposal in self.of(source) {
            for why in &proposal.why {
                writeln!(out, "    # {why}")?;
            }
            writeln!(out, "    {:?},", proposal.entry)?;
        }
        writeln!(out, "]\n")
    }

    fn write_service(&self, out: &mut dyn Write) -> io::Result<()> {
        let sources = [Source::Providers, Source::Phones];
        let there = sources
            .into_iter()
            .filter(|&source| self.of(source).next().is_some());
        let names: Vec<_> = there.map(|source| format!("{:?}", source.name())).collect();
        writeln!(
            out,
            "# The web page is not guarded by this; `sipguard init` writes a config that guards it, too."
        )?;
        writeln!(out, "[services.sip]")?;
        writeln!(out, "udp = [5060, 5061, 50600]")?;
        writeln!(out, "tcp = [5060, 5061, 50600]")?;
        writeln!(out, "allow = [{}]", names.join(", "))
    }

    fn write_refused(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.refused.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n# Not let in:")?;
        for Refused { address, why, .. } in self.refused.iter().take(SHOWN) {
            writeln!(out, "#   {address}")?;
            for why in why {
                writeln!(out, "#     {why}")?;
            }
        }
        match self.refused.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => writeln!(out, "#   and {}", count(more, "other", "others")),
        }
    }
}
