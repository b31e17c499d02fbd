//! Function and helper folders from source text.

use std::path::{Path, PathBuf};

/// A folder that is a function or a helper, made of text or found on the disk.
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

    /// A Python helper whose class is its name with a capital, in `main.py`. `manifest` is added as for functions.
    pub fn helper(name: &str, manifest: &str, source: &str) -> Self {
        Self::helper_version(name, "1.0.0", manifest, source)
    }

    /// The same with a version.
    pub fn helper_version(name: &str, version: &str, manifest: &str, source: &str) -> Self {
        Self::helper_of(name, version, "python3", "main.py", manifest, source)
    }

    /// A Node helper whose class is its name with a capital, exported by `main.js`.
    pub fn node_helper(name: &str, manifest: &str, source: &str) -> Self {
        Self::helper_of(name, "1.0.0", "node", "main.js", manifest, source)
    }

    fn helper_of(name: &str, version: &str, runtime: &str, file: &str, manifest: &str, source: &str) -> Self {
        let class: String = name.chars().take(1).flat_map(char::to_uppercase).chain(name.chars().skip(1)).collect();
        let manifest = format!(
            "name = \"{name}\"\nversion = \"{version}\"\nsummary = \"for a test\"\nruntime = \"{runtime}\"\n\
             entry = \"main:{class}\"\n{manifest}"
        );
        Self::empty().file("helper.toml", &manifest).file(file, source)
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
