//! Retention: old versions are given up, so that the collection of garbage removes their files.

use std::collections::BTreeSet;

use crate::log::Op;
use crate::{Dataset, Error, Registry, Result, Version};

impl Version {
    /// An error if the version's files are or will be removed.
    pub(crate) fn check_standing(&self) -> Result<()> {
        match self.retired {
            Some(at) => Err(Error::Retired { version: self.to_string(), at }),
            None => Ok(()),
        }
    }
}

impl Dataset {
    /// The versions beyond the newest `keep`, oldest first. The latest and the tagged ones are not
    /// counted and stay. 0 keeps all.
    pub fn outdated(&self, keep: usize) -> Vec<u64> {
        if keep == 0 {
            return Vec::new();
        }
        let tagged: BTreeSet<_> = self.tags.values().copied().collect();
        let latest = self.latest().map(|version| version.number);
        let free = |version: &&Version| {
            version.retired.is_none() && Some(version.number) != latest && !tagged.contains(&version.number)
        };
        let mut outdated: Vec<_> =
            self.versions.iter().rev().filter(free).skip(keep).map(|version| version.number).collect();
        outdated.reverse();
        outdated
    }
}

impl Registry {
    /// Withdraws the versions that [`Dataset::outdated`] names and gives up their files, which
    /// [`Registry::gc`] removes once they have been given up for its age. Returns their numbers.
    pub async fn retire(&self, name: &str, keep: usize) -> Result<Vec<u64>> {
        let mut retired = Vec::new();
        for version in self.dataset(name).await?.outdated(keep) {
            // Asked again in front of each entry: a tag may have come in between.
            let propose = |dataset: &Dataset| {
                Ok(dataset.outdated(keep).contains(&version).then_some(Op::Retire { version }))
            };
            if self.append(name, propose).await?.numbered(version)?.retired.is_some() {
                retired.push(version);
            }
        }
        Ok(retired)
    }
}
