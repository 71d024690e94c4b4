//! An authority of our own, the certificates it issues, and a TLS front for upstreams that speak in clear.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Whom clients and gateways under test may be told to trust.
pub(crate) struct TestAuthority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub(crate) struct Issued {
    pub certificate: CertificateDer<'static>,
    cert_pem: String,
    key_pem: String,
    key: KeyPair,
}

/// A port that speaks TLS and passes everything on to an address that does not. Ends with the test's process.
pub(crate) struct TlsFront {
    address: SocketAddr,
    handshakes: Arc<Mutex<Vec<FrontHandshake>>>,
}

/// What a client of a [`TlsFront`] said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FrontHandshake {
    pub server_name: Option<String>,
    pub has_certificate: bool,
}

// === impl TestAuthority ===

impl TestAuthority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        TestAuthority(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// A certificate for these names and addresses; what has a scheme is a URI.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let (uris, names): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains("://"));
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params
            .subject_alt_names
            .extend(uris.into_iter().map(|uri| SanType::URI(uri.try_into().expect("a URI"))));
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Issued {
            certificate: certificate.der().clone(),
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key,
        }
    }

    /// Writes the authority's certificate to a PEM file.
    pub(crate) fn write(&self, directory: &Path, name: &str) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, self.0.pem()).expect("the file is written");
        path
    }

    /// A client that trusts this authority alone, and has a certificate or none.
    pub(crate) fn client(&self, identity: Option<&Issued>) -> Arc<ClientConfig> {
        self.client_of(rustls::DEFAULT_VERSIONS, &[], identity)
    }

    /// The same, which speaks these versions of TLS and offers these protocols.
    pub(crate) fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
        identity: Option<&Issued>,
    ) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(self.roots());
        let mut config = match identity {
            Some(issued) => builder.with_client_auth_cert(vec![issued.certificate.clone()], issued.secret()),
            None => Ok(builder.with_no_client_auth()),
        }
        .expect("a client");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        roots
    }
}

// === impl Issued ===

impl Issued {
    /// Writes both PEM files, `NAME.pem` and `NAME.key`.
    pub(crate) fn write(&self, directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (directory.join(format!("{name}.pem")), directory.join(format!("{name}.key")));
        fs::write(&key, &self.key_pem).expect("the file is written");
        fs::write(&cert, &self.cert_pem).expect("the file is written");
        (cert, key)
    }

    fn secret(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key")
    }
}

// === impl TlsFront ===

impl TlsFront {
    /// In front of `behind`, with that certificate; offers `protocols`, and takes clients of `clients` alone if given.
    pub(crate) fn before(
        behind: SocketAddr,
        issued: &Issued,
        protocols: &[&str],
        clients: Option<&TestAuthority>,
    ) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = match clients {
            Some(authority) => {
                let roots = Arc::new(authority.roots());
                WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
                    .build()
                    .expect("a verifier")
            }
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![issued.certificate.clone()], issued.secret())
            .expect("a certificate");
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let handshakes = Arc::new(Mutex::default());
        let front = serve(listener, behind, TlsAcceptor::from(Arc::new(config)), Arc::clone(&handshakes));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(front);
        });
        TlsFront { address, handshakes }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// All handshakes that came about, in their order.
    pub(crate) fn handshakes(&self) -> Vec<FrontHandshake> {
        self.handshakes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(
    listener: std::net::TcpListener,
    behind: SocketAddr,
    acceptor: TlsAcceptor,
    handshakes: Arc<Mutex<Vec<FrontHandshake>>>,
) {
    listener.set_nonblocking(true).expect("a socket");
    let listener = TcpListener::from_std(listener).expect("a socket");
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, handshakes) = (acceptor.clone(), Arc::clone(&handshakes));
        tokio::spawn(async move {
            let Ok(mut secured) = acceptor.accept(stream).await else { return };
            let session = secured.get_ref().1;
            handshakes.lock().unwrap_or_else(PoisonError::into_inner).push(FrontHandshake {
                server_name: session.server_name().map(str::to_owned),
                has_certificate: session.peer_certificates().is_some(),
            });
            let Ok(mut plain) = TcpStream::connect(behind).await else { return };
            // A connection that fails shows on both sides.
            let _ = copy_bidirectional(&mut secured, &mut plain).await;
        });
    }
}
