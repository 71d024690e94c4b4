//! Where checkpoints are written beside the database: lines that are only ever appended.
//!
//! A file, or a directory that gets a file per day, as stores that can't append want it. It should be where whoever has
//! the database is not: another machine's disk, or one that can be written once only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::clock::Timestamp;
use crate::control::ControlError;
use crate::domain::TenantId;
use crate::secret::checkpoint::{Checkpoint, SignedCheckpoint, Worth};
use crate::secret::ed25519::PublicKey;

/// A file, or a directory of files, of checkpoints: one JSON object a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointFile(PathBuf);

/// A longer line is no checkpoint.
const LINE_BYTES_MAX: u64 = 1 << 10;
/// Of the newest lines of a chain so many are compared: more prove nothing more.
const PLACES_MAX: usize = 10_000;

// === impl CheckpointFile ===

impl CheckpointFile {
    /// A directory if one is there, else a file, which is made with its first line.
    pub const fn new(path: PathBuf) -> CheckpointFile {
        CheckpointFile(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Appends the lines and waits until they are on the disk.
    ///
    /// Dropping the future leaves it open whether they were written.
    ///
    /// # Errors
    /// [`ControlError::Checkpoints`]; some of them may be there all the same.
    pub async fn append(&self, signed: &[SignedCheckpoint], now: Timestamp) -> Result<(), ControlError> {
        // Ids, numbers and texts always have a form in JSON.
        let lines: String =
            signed.iter().filter_map(|signed| Some(serde_json::to_string(signed).ok()? + "\n")).collect();
        let path = self.file_of(now);
        self.off_thread(move || append(&path, lines.as_bytes())).await
    }

    /// What it says of a chain, as far as it is signed by one of `keys`: the newest of it. Nothing, where there is no
    /// file yet.
    ///
    /// # Errors
    /// [`ControlError::Checkpoints`]
    pub async fn places_of(
        &self,
        tenant: Option<TenantId>,
        keys: Vec<PublicKey>,
    ) -> Result<Vec<Checkpoint>, ControlError> {
        let own = self.clone();
        self.off_thread(move || {
            let mut places = Vec::new();
            own.each(|signed| {
                if signed.tenant_id == tenant && signed.worth(&keys) == Worth::Good {
                    if places.len() == 2 * PLACES_MAX {
                        places.drain(..PLACES_MAX);
                    }
                    places.push(signed.place);
                }
            })?;
            Ok(places)
        })
        .await
    }

    /// Calls `each` with every checkpoint, in the order of the files' names and of their lines. What is no checkpoint is
    /// passed over: a line may have been cut short by a crash, and whoever can spoil one can delete it as well.
    ///
    /// # Errors
    /// When the files can't be read.
    pub fn each(&self, mut each: impl FnMut(SignedCheckpoint)) -> io::Result<()> {
        for path in self.files()? {
            let mut reader = BufReader::new(File::open(path)?);
            let mut line = Vec::new();
            while (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? > 0 {
                if let Ok(signed) = serde_json::from_slice(&line) {
                    each(signed);
                }
                line.clear();
            }
        }
        Ok(())
    }

    fn files(&self) -> io::Result<Vec<PathBuf>> {
        if !self.0.is_dir() {
            return Ok(if self.0.exists() { vec![self.0.clone()] } else { Vec::new() });
        }
        let entries = fs::read_dir(&self.0)?.map(|entry| entry.map(|entry| entry.path()));
        let mut files = entries.collect::<io::Result<Vec<_>>>()?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "ndjson"));
        files.sort();
        Ok(files)
    }

    fn file_of(&self, now: Timestamp) -> PathBuf {
        if !self.0.is_dir() {
            return self.0.clone();
        }
        let day: String = now.to_string().chars().take("2026-11-23".len()).collect();
        self.0.join(format!("checkpoints-{day}.ndjson"))
    }

    /// Files may be on a disk far away.
    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, ControlError> {
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.unwrap_or_else(|_| Err(io::Error::other("the process ends")));
        done.map_err(|error| ControlError::Checkpoints(self.0.clone(), error))
    }
}

fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let whole = ends_a_line(&mut file)?;
    file.write_all(if whole { b"" } else { b"\n" })?;
    file.write_all(lines)?;
    file.sync_all()
}

/// False where a crash has cut a line short.
fn ends_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::CheckpointFile;
    use crate::clock::Timestamp;
    use crate::secret::checkpoint::{Checkpoint, SignedCheckpoint};
    use crate::secret::ed25519::SigningKey;

    fn key() -> SigningKey {
        SigningKey::parse("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").unwrap()
    }

    fn signed(seq: i64) -> SignedCheckpoint {
        let place = Checkpoint { seq, hash: "0a".repeat(32) };
        SignedCheckpoint::sign(&key(), None, place, Timestamp::from_seconds(1))
    }

    async fn places(file: &CheckpointFile) -> Vec<i64> {
        let places = file.places_of(None, vec![key().public()]).await.unwrap();
        places.into_iter().map(|place| place.seq).collect()
    }

    #[tokio::test]
    async fn a_line_that_was_cut_short_costs_itself_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines.ndjson");
        let file = CheckpointFile::new(path.clone());
        assert_eq!(places(&file).await, [] as [i64; 0]);
        let now = Timestamp::from_seconds(1_800_000_000);
        file.append(&[signed(1), signed(2)], now).await.unwrap();
        let half = &serde_json::to_string(&signed(3)).unwrap()[..50];
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(half.as_bytes()).unwrap();
        file.append(&[signed(4)], now).await.unwrap();
        assert_eq!(places(&file).await, [1, 2, 4]);
    }

    #[tokio::test]
    async fn a_directory_has_a_file_per_day() {
        let directory = tempfile::tempdir().unwrap();
        let file = CheckpointFile::new(directory.path().to_owned());
        for (seq, day) in [(1, 0), (2, 0), (3, 86_400)] {
            file.append(&[signed(seq)], Timestamp::from_seconds(1_800_000_000 + day)).await.unwrap();
        }
        assert_eq!(places(&file).await, [1, 2, 3]);
        let mut names: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["checkpoints-2027-01-15.ndjson", "checkpoints-2027-01-16.ndjson"]);
    }

    #[tokio::test]
    async fn a_line_that_nobody_whom_we_believe_has_signed_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = CheckpointFile::new(directory.path().join("lines"));
        let mut forged = signed(2);
        forged.place.seq = 3;
        file.append(&[signed(1), forged], Timestamp::from_seconds(1)).await.unwrap();
        assert_eq!(places(&file).await, [1]);
        assert_eq!(file.places_of(None, Vec::new()).await.unwrap(), []);
    }
}
