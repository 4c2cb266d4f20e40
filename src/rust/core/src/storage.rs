//! Prepared tests in files, so that other processes need not decompose the kernels again.
//!
//! A file is a mark with the format's version, the test in the postcard format, then its length and a checksum. It
//! appears under its name only when it is complete. A test that was read gives the same results bit for bit.
//!
//! The checksum finds damage, not malice: whoever can write the file can make it right. Files are for processes of the
//! same user, in a folder that nobody else can open.

use crate::error::{Error, Result};
use crate::spatial_test::SpatialTest;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The first bytes of a file; the last one is the format's version.
const MARK: [u8; 8] = *b"patina\0\x05";

/// Length and checksum, at the end of a file.
const TRAILER: u64 = 16;

/// Size of the buffers.
const BUFFER: usize = 1 << 20;

/// Writes a test to a file, first under a temporary name in the same folder.
///
/// # Errors
/// [`Error::File`] if it cannot be written, for instance because the disk is full; no file is left behind then.
pub fn save(test: &SpatialTest, path: &Path) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    let written = write(test, &partial).and_then(|()| fs::rename(&partial, path));
    written.map_err(|error| {
        // Whether it exists or not.
        let _ = fs::remove_file(&partial);
        file_error(path, &error)
    })
}

/// Reads a test that [`save`] has written.
///
/// # Errors
/// [`Error::File`] if the file cannot be read, [`Error::Damaged`] if it is incomplete or was changed.
pub fn load(path: &Path) -> Result<SpatialTest> {
    let failed = |error: io::Error| file_error(path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let payload = check(&mut file).map_err(failed)??;
    file.seek(SeekFrom::Start(MARK.len() as u64)).map_err(failed)?;
    let reader = BufReader::with_capacity(BUFFER, file.take(payload));
    let (test, _): (SpatialTest, _) = postcard::from_io((reader, &mut [0; 64]))
        .map_err(|_| Error::Damaged("it is not what this version of the package writes"))?;
    test.linked()
}

fn file_error(path: &Path, error: &io::Error) -> Error {
    Error::File { path: path.display().to_string(), reason: error.to_string() }
}

fn write(test: &SpatialTest, path: &Path) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(BUFFER, File::create(path)?);
    file.write_all(&MARK)?;
    let mut payload = Summed { inner: file, sum: Checksum::new(), length: 0, failure: None };
    let written = postcard::to_io(test, &mut payload).map(|_| ());
    let Summed { inner: mut file, sum, length, failure } = payload;
    // Postcard hides why writing failed.
    written.map_err(|error| failure.unwrap_or_else(|| io::Error::other(error.to_string())))?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(&sum.value().to_le_bytes())?;
    file.into_inner()?.sync_all()
}

/// The payload's length, if mark, length and checksum are right.
fn check(file: &mut File) -> io::Result<Result<u64>> {
    let total = file.metadata()?.len();
    let Some(payload) = total.checked_sub(MARK.len() as u64 + TRAILER) else {
        return Ok(Err(Error::Damaged("the file is too short")));
    };
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let mut mark = [0; MARK.len()];
    reader.read_exact(&mut mark)?;
    if mark != MARK {
        return Ok(Err(Error::Damaged("the file was not written by this version of the package")));
    }
    let mut summed = Summed { inner: io::sink(), sum: Checksum::new(), length: 0, failure: None };
    io::copy(&mut reader.by_ref().take(payload), &mut summed)?;
    let mut number = [0; 8];
    let mut next = || -> io::Result<u64> {
        reader.read_exact(&mut number)?;
        Ok(u64::from_le_bytes(number))
    };
    Ok(match (next()? == payload, next()? == summed.sum.value()) {
        (true, true) => Ok(payload),
        (false, _) => Err(Error::Damaged("the file is incomplete")),
        (true, false) => Err(Error::Damaged("its checksum is wrong")),
    })
}

/// Passes bytes on, and keeps their number and checksum.
struct Summed<W> {
    inner: W,
    sum: Checksum,
    length: u64,
    /// Why writing failed.
    failure: Option<io::Error>,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes);
        let written = written.map_err(|error| self.failed(error))?;
        self.sum.add(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.inner.flush();
        flushed.map_err(|error| self.failed(error))
    }
}

impl<W> Summed<W> {
    fn failed(&mut self, error: io::Error) -> io::Error {
        let kind = error.kind();
        self.failure = Some(error);
        kind.into()
    }
}

/// The 64-bit FNV-1a hash.
struct Checksum(u64);

impl Checksum {
    fn new() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }

    fn value(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{normal, se, two_samples};
    use crate::{Approximation, Kernel, Request};
    use faer::Mat;

    #[test]
    fn a_test_that_was_read_gives_the_same_results_and_damage_is_found() {
        let locations = two_samples(60);
        let mut normal = normal(3);
        let y = Mat::from_fn(locations.len(), 5, |_, _| normal());
        let kernels = [0.5, 2.0].map(se);
        let folder = std::env::temp_dir().join(format!("patina-storage-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("test.bin");
        for approximation in
            [Approximation::Exact, Approximation::PivotedCholesky, Approximation::Krylov, Approximation::Grid]
        {
            let test =
                SpatialTest::with_groups(&kernels, &[0, 1], locations.clone(), Request::test(approximation))
                    .unwrap();
            let test = test.calibrate().unwrap();
            save(&test, &path).unwrap();
            let again = load(&path).unwrap();
            let fits = |test: &SpatialTest| format!("{:?}", test.fit(y.as_ref()).unwrap());
            assert!(fits(&test) == fits(&again));
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "temporary files are left behind");

        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        let mut other = whole.clone();
        other[7] += 1;
        for damaged in [&whole[..whole.len() - 1], &whole[..10], &[], &changed, &other] {
            fs::write(&path, damaged).unwrap();
            assert!(matches!(load(&path), Err(Error::Damaged(_))));
        }
        assert!(matches!(load(&folder.join("missing")), Err(Error::File { .. })));
        let test = SpatialTest::new(&kernels, locations).unwrap();
        assert!(matches!(save(&test, &folder.join("missing/test.bin")), Err(Error::File { .. })));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_that_leaves_nothing_behind() {
        let folder = std::env::temp_dir().join(format!("patina-full-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("test.bin");
        // What is written to this device finds no space; the file is first written under this name.
        let partial = folder.join(format!("test.bin.{}.partial", std::process::id()));
        std::os::unix::fs::symlink("/dev/full", partial).unwrap();
        let test = SpatialTest::new(&[Kernel::linear()], two_samples(20)).unwrap();
        let Err(Error::File { reason, .. }) = save(&test, &path) else { panic!("there is no error") };
        assert!(reason.contains("No space"), "{reason}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir_all(&folder).unwrap();
    }
}
