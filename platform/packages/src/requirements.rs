//! What a `requirements.txt` may ask for: packages that come as wheels, and nothing that would run their code while they
//! are installed.
//!
//! pip's `--only-binary` says nothing about source trees, version control and local folders, and the file itself can take
//! the option back; so its lines are read first, cut and joined as pip does it. What pip could read differently is refused.

use crate::error::PackageError;
use std::path::Path;

/// Requirement files that include each other at most.
const FILES_MAX: usize = 16;
/// Largest file that names dependencies.
pub(crate) const FILE_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// Options that may be a line of their own; none of them makes pip run code of a package.
const FLAGS: &[&str] = &["--no-index", "--pre", "--prefer-binary", "--require-hashes"];

/// The same with one value. `--only-binary` is not among them: with `:none:` it undoes the platform's own.
const OPTIONS: &[&str] = &["--index-url", "-i", "--extra-index-url", "--trusted-host"];

/// The requirement files of a package (the first and all it includes) with their content, and whether any asks for
/// something.
pub(crate) struct Requirements {
    pub(crate) files: Vec<(String, String)>,
    pub(crate) asks: bool,
}

pub(crate) fn read(root: &Path, first: &str) -> Result<Requirements, PackageError> {
    let mut requirements = Requirements { files: Vec::new(), asks: false };
    let mut names = vec![first.to_owned()];
    while let Some(name) = names.pop() {
        if requirements.files.iter().any(|(seen, _)| *seen == name) {
            continue;
        }
        if requirements.files.len() == FILES_MAX {
            return Err(problem(first, format!("includes more than {FILES_MAX} files")));
        }
        let text = text_of(root, &name)?;
        check_lines(&name, &text, &mut requirements.asks, &mut names)?;
        requirements.files.push((name, text));
    }
    requirements.files.sort();
    Ok(requirements)
}

pub(crate) fn problem(file: &str, problem: impl Into<String>) -> PackageError {
    PackageError::Dependencies { file: file.to_owned(), problem: problem.into() }
}

/// The text of a file of the package, bounded.
pub(crate) fn text_of(root: &Path, name: &str) -> Result<String, PackageError> {
    let path = root.join(name);
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= FILE_MAX_BYTES => {}
        Ok(_) => return Err(problem(name, format!("is not a file of at most {FILE_MAX_BYTES} bytes"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(problem(name, "is not in the package"));
        }
        Err(error) => return Err(PackageError::io("read a file of the package")(error)),
    }
    let bytes = std::fs::read(&path).map_err(PackageError::io("read a file of the package"))?;
    String::from_utf8(bytes).map_err(|_| problem(name, "is not UTF-8"))
}

fn check_lines(name: &str, text: &str, asks: &mut bool, names: &mut Vec<String>) -> Result<(), PackageError> {
    let text = text.trim_start_matches('\u{feff}');
    // Python ends a line at more characters than this language does.
    if text
        .replace("\r\n", "\n")
        .contains(|one: char| one.is_control() && !matches!(one, '\n' | '\t') || matches!(one, '\u{2028}' | '\u{2029}'))
    {
        return Err(problem(name, "has a control character"));
    }
    if text.lines().take(2).any(declares_other_encoding) {
        return Err(problem(name, "declares an encoding; it has to be UTF-8"));
    }
    let joined = joined(text);
    for line in joined.iter().map(|line| without_comment(line)).filter(|line| !line.is_empty()) {
        let refuse =
            |why: &str| problem(name, format!("the line {:?} {why}", line.chars().take(120).collect::<String>()));
        if line.contains("${") {
            return Err(refuse("has `${`, which pip would replace by a setting of the platform"));
        }
        let mut words = line.splitn(2, |one: char| one.is_whitespace() || one == '=');
        let (first, rest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default().trim());
        if let "-r" | "--requirement" | "-c" | "--constraint" = first {
            let folder = Path::new(name).parent().unwrap_or(Path::new(""));
            let path = folder.join(rest).to_string_lossy().into_owned();
            let checked = crate::tree::path_of(path.as_bytes()).ok().flatten();
            names.push(checked.ok_or_else(|| refuse("includes a file that is not in the package"))?);
        } else if first.starts_with('-') {
            // One option a line: pip would take a second one from the same line.
            let one_word = !rest.is_empty()
                && !rest.starts_with('-')
                && !rest.contains(|one: char| one.is_whitespace() || matches!(one, '"' | '\'' | '\\'));
            if !(FLAGS.contains(&first) && rest.is_empty() || OPTIONS.contains(&first) && one_word) {
                return Err(refuse("has an option that is not accepted; packages are installed from wheels only"));
            }
        } else {
            if is_source(line) {
                return Err(refuse(
                    "asks for source code; only wheels are installed, by name or from a URL that ends in .whl",
                ));
            }
            *asks = true;
        }
    }
    Ok(())
}

/// Lines as pip joins them: nothing takes the place of the backslash, and a comment does not go on.
fn joined(text: &str) -> Vec<String> {
    let (mut lines, mut begun) = (Vec::new(), String::new());
    for line in text.lines() {
        let is_comment = line.trim_start().starts_with('#');
        if line.ends_with('\\') && !is_comment {
            begun.push_str(line.trim_matches('\\'));
        } else {
            begun.push_str(if is_comment { " " } else { "" });
            begun.push_str(line);
            lines.push(std::mem::take(&mut begun));
        }
    }
    lines.push(begun);
    lines
}

/// Whether a comment at the top makes pip read the file in another encoding.
fn declares_other_encoding(line: &str) -> bool {
    let after = |mark| line.split_once(mark).map(|(_, encoding): (&str, &str)| encoding.trim_start());
    let utf8 = |encoding: &str| {
        let end = encoding.find(|one: char| !one.is_ascii_alphanumeric() && !"-_.".contains(one));
        matches!(encoding[..end.unwrap_or(encoding.len())].to_ascii_lowercase().as_str(), "utf-8" | "utf8")
    };
    line.starts_with('#') && ["coding:", "coding="].into_iter().filter_map(after).any(|encoding| !utf8(encoding))
}

/// A comment begins with `#` at the front or after white space.
fn without_comment(line: &str) -> &str {
    let end =
        line.match_indices('#').map(|(at, _)| at).find(|at| *at == 0 || line[..*at].ends_with(char::is_whitespace));
    line[..end.unwrap_or(line.len())].trim()
}

/// Whether a requirement is something other than a name or a wheel: version control, a path, an archive.
fn is_source(line: &str) -> bool {
    let line = line.split(" --").next().unwrap_or(line);
    let requirement = line.split(';').next().unwrap_or(line).trim();
    let location = requirement.split_once('@').map_or(requirement, |(_, location)| location.trim());
    let is_location = location.contains("://")
        || requirement.starts_with(['.', '/', '~'])
        || requirement.contains(['/', '\\'])
        || location.starts_with("file:");
    let path = location.split(['#', '?']).next().unwrap_or(location);
    let is_remote_wheel = location.starts_with("https://") && path.ends_with(".whl");
    let is_archive = [".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar"].iter().any(|end| path.ends_with(end));
    (is_location || is_archive) && !is_remote_wheel
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn check(text: &str) -> Result<(bool, Vec<String>), PackageError> {
        let (mut asks, mut names) = (false, Vec::new());
        check_lines("requirements.txt", text, &mut asks, &mut names).map(|()| (asks, names))
    }

    #[test]
    fn accepts_names_wheels_and_harmless_options() {
        for line in [
            "requests",
            "requests==2.32.0",
            "requests[socks]>=2,<3 ; python_version >= '3.9'",
            "a==1 --hash=sha256:abc",
            "a==1 \\\n  --hash=sha256:abc",
            "pkg @ https://example.org/pkg-1-py3-none-any.whl#sha256=ab",
            "https://example.org/pkg-1-py3-none-any.whl",
        ] {
            assert!(check(line).unwrap().0, "{line}");
        }
        for line in [
            "",
            "# nothing",
            "   # nothing",
            "# -*- coding: utf-8 -*-",
            "# uses ${HOME}",
            "--pre",
            "--index-url https://example.org/simple",
            "-i https://example.org",
            "--extra-index-url=https://e.org",
        ] {
            assert!(!check(line).unwrap().0, "{line}");
        }
        assert_eq!(check("-r more.txt\n-c sub/limits.txt").unwrap().1, ["more.txt", "sub/limits.txt"]);
    }

    #[test]
    fn refuses_what_would_run_code_or_reach_outside() {
        for line in [
            "-e .",
            "--editable=.",
            ".",
            "./local",
            "../local",
            "/abs",
            "local/dir",
            "git+https://example.org/a.git",
            "a @ git+https://example.org/a.git",
            "a @ file:///tmp/a",
            "a.tar.gz",
            "https://example.org/a.tar.gz",
            "a @ https://example.org/a.zip",
            "--no-binary :all:",
            "--no-binary=:all:",
            "--find-links x",
            "-r ../outside.txt",
            "-r /etc/passwd",
            "--config-settings x",
            "http://example.org/a-1-py3-none-any.whl",
            "-rmore.txt",
            "--only-binary=:none:",
            "--only-binary :none:",
            "--only-binary=:all:",
            "--index-url https://${PIP_INDEX_URL}.example.org/",
            "six==${HTTP_PROXY}",
            "six==$\\\n{HTTP_PROXY}",
            "https://example.org/${PIP_INDEX_URL}-1-py3-none-any.whl",
            "--pre -e /var/task",
            "-i https://example.org -e /var/task",
            "-i https://example.org --no-binary=:all:",
            "--no-bin\\\nary=:all:",
            "# a comment \\\n-e /var/task",
            "# a comment\r-e /var/task",
            "six --hash=sha256:a\u{2028}-e /var/task",
            "six --hash=sha256:a\u{b}-e /var/task",
            "# -*- coding: utf-7 -*-\nsix",
        ] {
            let error = check(line).expect_err(line);
            assert_eq!(error.origin(), raas_core::Origin::Caller);
        }
    }
}
