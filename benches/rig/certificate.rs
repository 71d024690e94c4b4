//! A certificate that the clients of benches do not check, or trust as it is.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};

use super::Fault;

/// A certificate of `localhost` and its key, where the proxies find them.
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy reads them.
    pub(crate) both: PathBuf,
}

impl Certificate {
    /// Made once per run: ECDSA on P-256, what most certificates of today are.
    pub(crate) fn make(directory: &Path) -> Result<Certificate, Fault> {
        let fault = |error: rcgen::Error| format!("a certificate: {error}");
        let key = KeyPair::generate().map_err(fault)?;
        let parameters = CertificateParams::new(vec!["localhost".to_owned()]).map_err(fault)?;
        let certificate = parameters.self_signed(&key).map_err(fault)?;
        let file = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).map_err(|error| format!("writing {}: {error}", path.display()))?;
            Ok::<_, Fault>(path)
        };
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        Ok(Certificate {
            certificate: file("certificate.pem", &certificate)?,
            key: file("key.pem", &key)?,
            both: file("both.pem", &format!("{certificate}{key}"))?,
        })
    }
}
