//! Runs a script that the message itself brings: nothing has to be copied to the node first, and nothing stays there.
//!
//! ```json
//! [ { "toNode": "ship1", "data": ["#!/bin/sh\nset -e\ndf -h \"$1\"\n", "/var"], "commandOrEvent": "CommandACK", "method": "Script" } ]
//! ```
//!
//! `data[0]` is the text of the script, the rest are its arguments. `steward script ship1 deploy.sh -- args` sends a file so.
//!
//! * The first line says what runs it, as in a file: `#!/bin/sh`, `#!/usr/bin/env python3`, `#!/usr/bin/awk -f`. It names a whole
//!   path, and what stands behind that is one argument. A script without such a line is refused.
//! * While it runs, the script lies in a file for the node's user alone, in `scripts/` in the node's directory; `$0` names it. The
//!   file is removed when the script has ended, however it ended; what a killed node has left goes when it starts again. A file
//!   system on which nothing may be executed (`noexec`) is no obstacle.
//! * All `data` of a message together has room for 512 KiB, counted as JSON, where a line end and a quotation mark take two bytes.
//! * For everything else it is a program like those of `ShellCommand`: environment, output, looking on, `methodTimeout`, `cancel`,
//!   the exit code, what is ended with it, and `interrupted` where the node dies in the middle.
//! * A rule may let it in within limits only, and as another user: then it is read through an open file, so that `$0` is
//!   `/proc/self/fd/…`.
//! * To a rule, the text of the script is the first word of the data. Who refuses `ShellCommand` wants to refuse this as well; who
//!   wants to let in single scripts puts them into `methods.d/` and lets in those.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::program::{self, Program};
use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};
use crate::own_file::{self, Folder};

/// The folder in the node's directory in which scripts lie that run.
const FOLDER: &str = "scripts";

/// See the module's text.
pub(crate) struct Script;

/// A script, understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    text: String,
    interpreter: Interpreter,
    words: Vec<String>,
}

/// What runs a script, as its first line has it.
#[derive(Debug, PartialEq, Eq)]
struct Interpreter {
    program: String,
    argument: Option<String>,
}

impl Method for Script {
    const NAME: &'static str = "Script";
    const AFTER_CRASH: AfterCrash = AfterCrash::Interrupt;
    const EVENT: bool = false;
    type Args = Args;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        let Some((text, words)) = data.split_first() else {
            return Err("data is empty; give the text of the script, and its arguments".to_owned());
        };
        let interpreter = Interpreter::of(text)?;
        program::check(words, 1)?;
        Ok(Args { text: text.clone(), interpreter, words: words.to_vec() })
    }

    async fn run(args: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let Args { text, interpreter: Interpreter { program, argument }, words } = args;
        let (dir, for_others) = (ctx.dir().to_owned(), ctx.user().is_some());
        let put = tokio::task::spawn_blocking(move || OnDisk::put(&dir, text.as_bytes(), for_others)).await;
        let on_disk = put.map_err(io::Error::other).flatten();
        let on_disk = on_disk.map_err(|error| {
            MethodError(format!("the script can't be put into {FOLDER}/ in the node's directory: {error}"))
        })?;
        let mut argv: Vec<OsString> = std::iter::once(program).chain(argument).map(OsString::from).collect();
        let place = argv.len();
        argv.push(on_disk.0.clone().into());
        argv.extend(words.into_iter().map(OsString::from));
        program::run(Program::new(argv).lends(place), ctx).await
    }
}

impl Interpreter {
    /// What the first line of a script names; the error is a reason in words.
    fn of(text: &str) -> Result<Self, String> {
        let line = text.split('\n').next().unwrap_or_default();
        let Some(named) = line.strip_prefix("#!") else {
            return Err("the script does not begin with the line that says what runs it, as in #!/bin/sh".to_owned());
        };
        if named.ends_with('\r') {
            return Err(
                "the first line of the script ends with a carriage return, which would be a part of what is to \
                        run it; give its lines the ends that they have on Unix"
                    .to_owned(),
            );
        }
        let named = named.trim_matches([' ', '\t']);
        let (program, argument) = named.split_once([' ', '\t']).unwrap_or((named, ""));
        if !program.starts_with('/') {
            return Err(
                "the first line of the script names no whole path; write #!/usr/bin/env NAME for a program that \
                        is looked for"
                    .to_owned(),
            );
        }
        if named.contains('\0') {
            return Err("the first line of the script holds a NUL byte".to_owned());
        }
        let argument = Some(argument.trim_matches([' ', '\t'])).filter(|argument| !argument.is_empty());
        Ok(Self { program: program.to_owned(), argument: argument.map(str::to_owned) })
    }
}

/// A script that lies on the disk for as long as this lives.
#[derive(Debug)]
struct OnDisk(PathBuf);

impl OnDisk {
    /// Puts it there. Nothing of it has to outlive a power cut, so nothing is synced. Blocks.
    fn put(dir: &Path, text: &[u8], for_others: bool) -> io::Result<Self> {
        // Programs may change their working directory, so the path is a whole one.
        let path = std::path::absolute(dir.join(FOLDER))?;
        own_file::make_folder(&path)?;
        let (folder, name) = (Folder::open(&path)?, Uuid::now_v7().to_string());
        let mut file = folder.file(name.as_ref(), OpenOptions::new().write(true).create_new(true).mode(0o700))?;
        let on_disk = Self(path.join(name));
        file.write_all(text)?;
        if for_others {
            // Nobody gets here but through a file that the node has opened: the folder is ours alone.
            file.set_permissions(Permissions::from_mode(0o755))?;
        }
        Ok(on_disk)
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(file = %self.0.display(), %error, "a script that has ended could not be removed; it goes when \
                the node starts again");
        }
    }
}

/// Removes the scripts of a node that was killed. Called once at start, before anything runs. Returns how many there were.
pub(super) fn recover(dir: &Path) -> io::Result<usize> {
    let folder = match Folder::open(&dir.join(FOLDER)) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut removed = 0;
    for entry in fs::read_dir(folder.path())? {
        fs::remove_file(folder.path().join(entry?.file_name()))?;
        removed += 1;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(script: &str) -> Result<(String, Option<String>), String> {
        let args = Script::parse(&[script.to_owned(), "a b".to_owned()])?;
        assert_eq!((&*args.text, &args.words[..]), (script, &["a b".to_owned()][..]));
        Ok((args.interpreter.program, args.interpreter.argument))
    }

    #[test]
    fn the_first_line_says_what_runs_it_as_the_system_reads_it() {
        for (script, program, argument) in [
            ("#!/bin/sh", "/bin/sh", None),
            ("#! /bin/sh -eu\ntrue\n", "/bin/sh", Some("-eu")),
            ("#!\t/usr/bin/env  -S python3 -u \t\nprint()", "/usr/bin/env", Some("-S python3 -u")),
        ] {
            assert_eq!(parsed(script), Ok((program.to_owned(), argument.map(str::to_owned))), "{script:?}");
        }
        for (script, why) in [
            ("", "does not begin"),
            ("echo\n#!/bin/sh\n", "does not begin"),
            ("\u{feff}#!/bin/sh\n", "does not begin"),
            ("#!\n/bin/sh", "no whole path"),
            ("#!sh\n", "#!/usr/bin/env NAME"),
            ("#!/bin/sh\r\ntrue\r\n", "carriage return"),
            ("#!/bin/sh \0\n", "NUL"),
        ] {
            let told = parsed(script).unwrap_err();
            assert!(told.contains(why), "{script:?}: {told}");
        }
        assert!(Script::parse(&[]).unwrap_err().contains("data is empty"));
        let words = ["#!/bin/sh".to_owned(), "fine".to_owned(), "a\0b".to_owned()];
        assert!(Script::parse(&words).unwrap_err().contains("data[2] holds a NUL"));
    }

    #[test]
    fn a_script_is_there_while_it_runs_and_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let ours = OnDisk::put(dir.path(), b"#!/bin/sh\n", false).unwrap();
        let other = OnDisk::put(dir.path(), b"#!/bin/sh\n", true).unwrap();
        assert_eq!(fs::read(&ours.0).unwrap(), b"#!/bin/sh\n");
        assert_eq!((mode(&ours.0), mode(&other.0), mode(ours.0.parent().unwrap())), (0o700, 0o755, 0o700));
        let gone = ours.0.clone();
        drop(ours);
        assert!(!gone.exists() && other.0.exists());
        // A node that is killed drops nothing.
        std::mem::forget(other);
        assert_eq!(recover(dir.path()).unwrap(), 1);
        assert_eq!(recover(dir.path()).unwrap(), 0);
    }

    #[test]
    fn a_folder_that_leads_elsewhere_is_not_used() {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("theirs"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join(FOLDER)).unwrap();
        assert!(OnDisk::put(dir.path(), b"", false).unwrap_err().to_string().contains("is a link"));
        assert!(recover(dir.path()).unwrap_err().to_string().contains("is a link"));
        assert!(outside.path().join("theirs").exists());
    }
}
