//! The functions that the demo plays with, carried in the binary so that it works anywhere.

use std::path::{Path, PathBuf};

use rust_embed::Embed;

use crate::cli::failure::{Failure, Outcome};

/// The routes between US airports: Python.
pub const ROUTE: &str = "route";
/// Seattle's weather: Node.
pub const WEATHER: &str = "seattle-weather";

#[derive(Embed)]
#[folder = "../../examples/"]
#[include = "route/*"]
#[include = "seattle-weather/*"]
#[include = "trip/*"]
#[include = "nearby/*"]
#[include = "coat/*"]
#[exclude = "*/__pycache__/*"]
#[exclude = "*/node_modules/*"]
struct Examples;

#[derive(Embed)]
#[folder = "../../helpers/library/"]
#[include = "geo/*"]
#[include = "forecast/*"]
#[exclude = "*/__pycache__/*"]
struct Library;

/// Writes the files of a helper of the library below `folder`. Returns its own folder.
///
/// # Errors
/// They cannot be written.
pub fn unpack_helper(name: &str, folder: &Path) -> Outcome<PathBuf> {
    write_all::<Library>(name, folder)
}

/// Writes an example's files below `folder`. Returns its own folder.
///
/// # Errors
/// They cannot be written.
pub fn unpack(name: &str, folder: &Path) -> Outcome<PathBuf> {
    write_all::<Examples>(name, folder)
}

fn write_all<E: Embed>(name: &str, folder: &Path) -> Outcome<PathBuf> {
    let target = folder.join(name);
    let failed =
        |error: std::io::Error| Failure::local("no-space", format!("{} cannot be written: {error}", target.display()));
    let prefix = format!("{name}/");
    let mut files = 0;
    for path in E::iter().filter(|path| path.starts_with(&prefix)) {
        let Some(file) = E::get(&path) else { continue };
        let place = folder.join(path.as_ref());
        if let Some(parent) = place.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        std::fs::write(&place, &file.data).map_err(failed)?;
        files += 1;
    }
    match files {
        0 => Err(Failure::local("no-example", format!("this binary carries no example `{name}`"))),
        _ => Ok(target),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_examples_are_carried_whole() {
        let folder = tempfile::tempdir().unwrap();
        for (name, files) in [
            (ROUTE, ["raas.toml", "main.py", "airports.csv"]),
            (WEATHER, ["raas.toml", "main.js", "seattle-weather.csv"]),
        ] {
            let unpacked = unpack(name, folder.path()).unwrap();
            for file in files {
                assert!(unpacked.join(file).metadata().unwrap().len() > 0, "{name}/{file}");
            }
            raas_packages::pack_folder(&unpacked).unwrap();
        }
        assert!(unpack("absent", folder.path()).is_err());
    }
}
