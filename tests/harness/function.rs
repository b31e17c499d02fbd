//! Function folders from source text.

use std::path::{Path, PathBuf};

/// A folder that is a function, made of text or found on the disk.
pub struct Function {
    folder: Folder,
}

enum Folder {
    Made(tempfile::TempDir),
    Found(PathBuf),
}

impl Function {
    /// A Python function `main.handler`. `manifest` is added to the manifest's own keys: top-level keys first, then tables.
    pub fn python(name: &str, manifest: &str, source: &str) -> Self {
        Self::of(name, "python3", "main.py", manifest, source)
    }

    /// A Node function `main.handler`.
    pub fn node(name: &str, manifest: &str, source: &str) -> Self {
        Self::of(name, "node", "main.js", manifest, source)
    }

    fn of(name: &str, runtime: &str, file: &str, manifest: &str, source: &str) -> Self {
        let manifest = format!("name = \"{name}\"\nruntime = \"{runtime}\"\nhandler = \"main.handler\"\n{manifest}");
        Self::empty().file("raas.toml", &manifest).file(file, source)
    }

    /// A folder with nothing in it.
    pub fn empty() -> Self {
        Self { folder: Folder::Made(tempfile::tempdir().unwrap()) }
    }

    /// A folder of the repository, by its path from the root.
    pub fn found(path: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        Self { folder: Folder::Found(root.join(path)) }
    }

    /// With another file.
    pub fn file(self, path: &str, text: &str) -> Self {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        match &self.folder {
            Folder::Made(folder) => folder.path(),
            Folder::Found(path) => path,
        }
    }

    /// Packed as the CLI packs it.
    pub fn archive(&self) -> Vec<u8> {
        raas_packages::pack_folder(self.path()).unwrap().archive
    }
}
