//! What is to be asked for: what is in force, and nothing else.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use sipguard_lists::task::{FILE, Task, Tasks};

use super::{live::Live, session::Session};
use crate::{
    datapath::Generation,
    fetcher,
    host::Trouble,
    policy::{self, LiveSource},
};

impl Live {
    /// What is to be asked for. While an apply waits to be confirmed, what was before is asked for, too, as far as it is not another thing of
    /// the same name.
    pub(super) fn tasks(&self) -> Tasks {
        tasks_of(self.generations())
    }

    /// All live sources, each once, with the generation's own where another one asks for another thing.
    pub fn sources(&self) -> Vec<LiveSource> {
        let mut all: Vec<LiveSource> = Vec::new();
        for generation in self.generations() {
            for source in &generation.description.live {
                if all
                    .iter()
                    .all(|known| known.task.source != source.task.source)
                {
                    all.push(source.clone());
                }
            }
        }
        all
    }
}

/// What is to be asked for with these generations, the newest first.
pub(super) fn tasks_of<'g>(generations: impl Iterator<Item = &'g Generation>) -> Tasks {
    let mut all = Tasks::none();
    for generation in generations {
        let description = &generation.description;
        let services = description.services.iter().map(|found| &found.service);
        all.merge(policy::tasks(
            services,
            &description.live,
            &description.dns,
            description.notify.as_ref(),
        ));
    }
    all
}

impl Session<'_> {
    /// Writes down what is to be asked for, where it is another thing than before. What can't be written is told of.
    pub(super) fn write_tasks(&self, tasks: &Tasks) {
        let folder = self.host.store.folder();
        let file = folder.join(FILE);
        let written = if tasks.are_none() {
            // Where the disk is read-only, removing what is not there fails, too.
            match file.try_exists() {
                Ok(false) => Ok(()),
                _ => fs::remove_file(&file),
            }
        } else if is_written(tasks, &file) {
            Ok(())
        } else {
            write(tasks, folder)
        };
        if let Err(error) = written {
            self.host.note(Trouble::NotAsked { file, error });
        }
    }

    /// Has what is in force asked for, and nothing else. Copies of sources that are in no generation any more are of no use.
    pub(super) fn order(&self, live: Option<&Live>) {
        self.write_tasks(&live.map_or_else(Tasks::none, Live::tasks));
        let generations = live.into_iter().flat_map(Live::generations);
        let sources = generations.flat_map(|generation| &generation.description.live);
        let tasks: Vec<Task> = sources.map(|source| source.task.clone()).collect();
        // What is left of them takes room, and nothing else.
        let _ = self.host.copies().keep_only(&tasks);
    }
}

/// Whether it stands there, for the fetcher's group, which may be there only since.
fn is_written(tasks: &Tasks, file: &Path) -> bool {
    let is_for = |group| fs::metadata(file).is_ok_and(|metadata| metadata.gid() == group);
    fetcher::group().is_none_or(is_for)
        && Tasks::read(file).is_ok_and(|before| before.as_ref() == Some(tasks))
}

/// The fetcher's group may read this one file. Root need not have all rights here, and may give files to groups that it is in.
fn write(tasks: &Tasks, folder: &Path) -> io::Result<()> {
    match tasks.write(folder, fetcher::group()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => tasks.write(folder, None),
        written => written,
    }
}
