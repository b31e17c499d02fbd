//! What an archive or a folder contains, as a checked picture in memory: names, clashes, links, digest.
//!
//! The tree decides whether an entry may exist before anything is written for it, and whether links stay inside, by
//! walking the picture rather than the file system; unpacking and packing share it.

use crate::MANIFESTS;
use crate::error::{EntryProblem, PackageError};
use raas_core::limits::{PACKAGE_DEPTH_MAX, PACKAGE_NAME_MAX_BYTES};
use std::collections::BTreeMap;

/// Longest path in a package.
const PATH_MAX_BYTES: usize = 1_024;
/// Links followed one after the other, as the kernel counts them.
const LINK_HOPS_MAX: usize = 40;
/// The folder that the platform keeps for itself.
const RESERVED: &str = ".raas";

/// One thing in a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Folder,
    File { executable: bool, size_bytes: u64, content: [u8; 32] },
    Link { target: String },
}

/// Everything in a package by its path, `/` between components.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
    entries_max: usize,
}

/// A checked path; nothing for the archive's own top (`./`).
pub(crate) fn path_of(name: &[u8]) -> Result<Option<String>, PackageError> {
    let refuse = |problem: EntryProblem| Err(problem.of(name));
    if name.is_empty() {
        return refuse(EntryProblem::NoName);
    }
    if name.contains(&0) {
        return refuse(EntryProblem::Nul);
    }
    let Ok(text) = std::str::from_utf8(name) else {
        return refuse(EntryProblem::NotUtf8);
    };
    if text.contains('\\') {
        return refuse(EntryProblem::Backslash);
    }
    if text.starts_with('/') {
        return refuse(EntryProblem::Absolute);
    }
    let components: Vec<&str> =
        text.split('/').filter(|component| !component.is_empty() && *component != ".").collect();
    if components.contains(&"..") {
        return refuse(EntryProblem::ParentFolder);
    }
    if components.iter().any(|component| component.len() > PACKAGE_NAME_MAX_BYTES) {
        return refuse(EntryProblem::NameTooLong);
    }
    if components.len() > PACKAGE_DEPTH_MAX {
        return refuse(EntryProblem::TooDeep);
    }
    let path = components.join("/");
    if path.len() > PATH_MAX_BYTES {
        return refuse(EntryProblem::NameTooLong);
    }
    Ok((!path.is_empty()).then_some(path))
}

impl Tree {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { nodes: BTreeMap::new(), entries_max }
    }

    /// Adds something, and the folders above it that were not named. A folder may be named again, nothing else may.
    pub(crate) fn add(&mut self, path: &str, node: Node) -> Result<(), PackageError> {
        for (slash, _) in path.match_indices('/') {
            let above = &path[..slash];
            match self.nodes.get(above) {
                Some(Node::Folder) => {}
                Some(Node::File { .. }) => return Err(EntryProblem::FileAndFolder.of(above.as_bytes())),
                Some(Node::Link { .. }) => return Err(EntryProblem::BelowLink.of(path.as_bytes())),
                None => self.insert(above.to_owned(), Node::Folder)?,
            }
        }
        match (self.nodes.get(path), &node) {
            (None, _) => self.insert(path.to_owned(), node),
            (Some(Node::Folder), Node::Folder) => Ok(()),
            (Some(Node::Folder), _) | (Some(_), Node::Folder) => Err(EntryProblem::FileAndFolder.of(path.as_bytes())),
            (Some(_), _) => Err(EntryProblem::Duplicate.of(path.as_bytes())),
        }
    }

    fn insert(&mut self, path: String, node: Node) -> Result<(), PackageError> {
        if self.nodes.len() >= self.entries_max {
            return Err(PackageError::TooManyEntries { limit: self.entries_max });
        }
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Puts the real description of a file in the place of the one it was announced with.
    pub(crate) fn describe(&mut self, path: &str, node: Node) {
        if let Some(place) = self.nodes.get_mut(path) {
            *place = node;
        }
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Takes off the one folder that holds everything, where there is one and the manifest is in it; answers its name.
    pub(crate) fn strip_wrapper(&mut self) -> Result<Option<String>, PackageError> {
        let has_manifest = |folder: &str| {
            let mut paths = MANIFESTS.iter().map(|manifest| format!("{folder}{manifest}"));
            paths.any(|path| matches!(self.get(&path), Some(Node::File { .. })))
        };
        if has_manifest("") {
            return Ok(None);
        }
        let wrapper = self.nodes.keys().next().cloned().unwrap_or_default();
        let inside = format!("{wrapper}/");
        let alone = self.nodes.keys().all(|path| *path == wrapper || path.starts_with(&inside));
        if wrapper.contains('/') || !alone || !has_manifest(&inside) {
            return Err(PackageError::NoManifest);
        }
        let nodes = std::mem::take(&mut self.nodes);
        self.nodes =
            nodes.into_iter().filter_map(|(path, node)| Some((path.strip_prefix(&inside)?.to_owned(), node))).collect();
        Ok(Some(wrapper))
    }

    /// Refuses the platform's own folder and links that lead outside. Called once the wrapper is off.
    pub(crate) fn check(&self) -> Result<(), PackageError> {
        for (path, node) in self.iter() {
            if path.split('/').next() == Some(RESERVED) {
                return Err(EntryProblem::Reserved.of(path.as_bytes()));
            }
            if let Node::Link { target } = node {
                self.check_link(path, target).map_err(|problem| problem.of(path.as_bytes()))?;
            }
        }
        Ok(())
    }

    /// Follows a link, component by component as the kernel would, through other links. Where nothing is, it goes on
    /// by name: the link leads nowhere, but what it names must still be inside.
    fn check_link(&self, path: &str, target: &str) -> Result<(), EntryProblem> {
        if target.is_empty() || target.contains('\0') || target.len() > PATH_MAX_BYTES {
            return Err(EntryProblem::LinkTarget);
        }
        let mut place: Vec<String> = path.split('/').map(str::to_owned).collect();
        place.pop();
        let mut ahead: Vec<String> = Vec::new();
        let mut hops = 0;
        let mut follow = |target: &str, ahead: &mut Vec<String>| {
            hops += 1;
            if target.starts_with('/') {
                return Err(EntryProblem::LinkOutside);
            }
            if hops > LINK_HOPS_MAX {
                return Err(EntryProblem::LinkLoop);
            }
            ahead.extend(target.split('/').rev().map(str::to_owned));
            Ok(())
        };
        follow(target, &mut ahead)?;
        while let Some(component) = ahead.pop() {
            match component.as_str() {
                "" | "." => {}
                ".." => {
                    place.pop().ok_or(EntryProblem::LinkOutside)?;
                }
                _ => {
                    place.push(component);
                    if let Some(Node::Link { target }) = self.get(&place.join("/")) {
                        place.pop();
                        follow(target, &mut ahead)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// BLAKE3 over everything in order of path: path, kind, length, content.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"raas package 1\n");
        for (path, node) in self.iter() {
            hasher.update(&(path.len() as u64).to_le_bytes()).update(path.as_bytes());
            match node {
                Node::Folder => hasher.update(b"d"),
                Node::File { executable, size_bytes, content } => hasher
                    .update(if *executable { b"x" } else { b"f" })
                    .update(&size_bytes.to_le_bytes())
                    .update(content),
                Node::Link { target } => {
                    hasher.update(b"l").update(&(target.len() as u64).to_le_bytes()).update(target.as_bytes())
                }
            };
        }
        *hasher.finalize().as_bytes()
    }
}
