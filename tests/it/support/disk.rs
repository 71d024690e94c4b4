//! A disk of a few megabytes, which fills up like any other.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::wait::until;

/// A tmpfs over a directory, in a mount namespace of its own: only what is started by [`SmallDisk::enter`] sees it. It
/// needs no root, but a kernel that lets anybody make user namespaces (`kernel.unprivileged_userns_clone = 1`, or root).
pub(crate) struct SmallDisk {
    /// Keeps the namespace.
    keeper: Child,
    directory: PathBuf,
}

// === impl SmallDisk ===

impl SmallDisk {
    #[track_caller]
    pub(crate) fn over(directory: &Path, mebibytes: u32) -> SmallDisk {
        std::fs::create_dir_all(directory).expect("a directory");
        let script =
            "mount -t tmpfs -o size=\"$2m\" none \"$1\" && touch \"$1/.mounted\" && exec sleep infinity";
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(directory);
        let keeper =
            command.arg(mebibytes.to_string()).stdin(Stdio::null()).spawn().expect("util-linux is there");
        let mut disk = SmallDisk { keeper, directory: directory.to_owned() };
        until(
            "a small disk; it needs user namespaces (kernel.unprivileged_userns_clone = 1) or root",
            || {
                let ended = disk.keeper.try_wait().expect("our child");
                assert!(ended.is_none(), "no small disk can be mounted: allow user namespaces, or be root");
                disk.path(&disk.directory.join(".mounted")).exists().then_some(())
            },
        );
        disk
    }

    /// Makes it so large, with everything that is on it.
    #[track_caller]
    pub(crate) fn resize(&self, mebibytes: u32) {
        let mut mount = self.enter("mount".as_ref(), Path::new("/"));
        let size = format!("remount,size={mebibytes}m");
        let status = mount.args(["-o", &size]).arg(&self.directory).status().expect("util-linux is there");
        assert!(status.success());
    }

    /// A command that sees the disk.
    pub(crate) fn enter(&self, program: &OsStr, working_directory: &Path) -> Command {
        let mut command = Command::new("nsenter");
        let keeper = self.keeper.id().to_string();
        command.args(["--target", &keeper, "--user", "--mount", "--preserve-credentials"]);
        command.arg(format!("--wdns={}", working_directory.display())).arg("--").arg(program);
        command
    }

    /// Where a path on it can be reached from outside.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.keeper.id()));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
