//! What is in force now, asked of the kernel.

use super::{error::Error, session::Session};
use sipguard_lists::notify::Notify;

use crate::{
    datapath::{
        self, Attachment, Description, Generation, Pending, Pins, ServiceDescription, attachments,
    },
    device::Device,
    host::Host,
};

/// What is in force: the newest generation that a link of ours runs.
pub struct Live {
    /// Its number.
    pub number: u64,
    /// The generation.
    pub generation: Generation,
    /// All links of ours.
    pub links: Vec<Attachment>,
    /// The apply that waits to be confirmed, or waited until its time was over and was not cleared up yet.
    pub pending: Option<Pending>,
    /// While an apply waits to be confirmed, the generation that is in force if it is taken back.
    pub previous: Option<Generation>,
}

impl Live {
    /// The generations in which single entries are changed, so that they stay whichever of the two is kept.
    pub fn generations(&self) -> impl Iterator<Item = &Generation> {
        [&self.generation].into_iter().chain(&self.previous)
    }

    /// Who wants notices. While an apply waits to be confirmed, those of before do where it names nobody.
    pub fn notify(&self) -> Option<&Notify> {
        let mut all = self.generations();
        all.find_map(|generation| generation.description.notify.as_ref())
    }
}

/// What is in force now; `None` where nothing is attached. Takes no lock.
///
/// # Errors
/// Where the kernel can't be asked; [`Error::Orphaned`] and [`datapath::Error::OtherVersion`] where what is in force can't be read, which
/// filters all the same.
pub fn live(host: &Host) -> Result<Option<Live>, Error> {
    if Pins::find().is_none() {
        return Ok(None);
    }
    let mut tries = 0;
    loop {
        match look(host, Generation::open) {
            // An apply may have put another generation in the place of the one that we began to read.
            Err(_) if tries < 3 => tries += 1,
            found => return found,
        }
    }
}

/// The service that is called so.
///
/// # Errors
/// [`Error::NoService`], with those that there are.
pub fn service<'d>(
    description: &'d Description,
    name: &str,
) -> Result<&'d ServiceDescription, Error> {
    description.service(name).ok_or_else(|| {
        let known = description.services.iter();
        let known: Vec<_> = known.map(|found| &*found.service.name).collect();
        Error::NoService {
            name: name.to_owned(),
            known: known.join(", "),
        }
    })
}

impl Session<'_> {
    /// What is in force now, without reading again what this session has read: nobody else changes it.
    ///
    /// # Errors
    /// As [`live`].
    pub(super) fn live(&mut self) -> Result<Option<Live>, Error> {
        let mut read = std::mem::take(&mut self.read);
        look(self.host, |number| match read.remove(&number) {
            Some(generation) => Ok(generation),
            None => Generation::open(number),
        })
    }
}

fn look(
    host: &Host,
    mut open: impl FnMut(u64) -> Result<Generation, datapath::Error>,
) -> Result<Option<Live>, Error> {
    let links = attachments(host.now())?;
    let pending = links.iter().find_map(|link| link.pending);
    // Where the time to confirm is over, a link may be left that lets everything pass.
    if links
        .iter()
        .all(|link| link.generation.is_none() && link.pending.is_some())
    {
        return Ok(None);
    }
    let newest = links.iter().filter_map(|link| link.generation).max();
    let number = newest.ok_or_else(|| Error::Orphaned {
        interfaces: links
            .iter()
            .map(|link| link.interface.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    })?;
    let generation = open(number)?;
    let previous = pending
        .filter(|pending| pending.generation == number)
        .and_then(|pending| pending.previous)
        .map(open)
        .transpose()?;
    Ok(Some(Live {
        number,
        generation,
        links,
        pending,
        previous,
    }))
}

/// The apply that waits to be confirmed, or waited until its time was over and was not cleared up yet. Takes no lock.
///
/// # Errors
/// Where the kernel can't be asked.
pub fn pending(host: &Host) -> Result<Option<Pending>, Error> {
    let links = attachments(host.now())?;
    Ok(links.iter().find_map(|link| link.pending))
}

/// What is in force, as far as it is known: what can't be read filters all the same, and is replaced like anything else.
pub(super) fn replaceable(found: Result<Option<Live>, Error>) -> Result<Option<Live>, Error> {
    match found {
        Err(Error::Orphaned { .. } | Error::Datapath(datapath::Error::OtherVersion { .. })) => {
            Ok(None)
        }
        found => found,
    }
}

/// Whether a link leads to this device: it stays behind where the interface went away, and another one may have got its name.
pub(super) fn is_attached(link: &Attachment, device: &Device) -> bool {
    link.interface == device.name && link.hook(device).is_some()
}
