//! Mail, by the operator's own server.

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::time::timeout;

use super::message::Text;
use crate::domain::DeliveryId;

/// The server that takes mail from us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MailSettings {
    pub host: String,
    pub port: u16,
    pub security: MailSecurity,
    pub credentials: Option<(String, String)>,
    /// Who mail is from: an address, or a name and an address in angle brackets.
    pub from: String,
    /// PEM file of the authorities that are trusted; without it the system's are.
    pub ca: Option<PathBuf>,
}

/// How a connection to the server is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MailSecurity {
    /// TLS from the first byte on.
    Tls,
    /// TLS before anything is said.
    StartTls,
    /// None: a server on this machine or in this network.
    Plain,
}

/// Why no mail can be sent.
#[derive(Debug, thiserror::Error)]
pub enum BadMail {
    #[error("reading the certificates of {0}")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("setting up TLS")]
    Tls(#[source] lettre::transport::smtp::Error),
    #[error("`{0}` is no sender")]
    From(String, #[source] lettre::address::AddressError),
}

/// Sends mail.
pub(super) struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    within: Duration,
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum MailError {
    #[error("the address is none")]
    Address(#[from] lettre::address::AddressError),
    #[error("the message can't be written")]
    Message(#[from] lettre::error::Error),
    #[error("the mail server did not take it")]
    Smtp(#[from] lettre::transport::smtp::Error),
    #[error("it took longer than {} seconds", .0.as_secs())]
    TimedOut(Duration),
}

// === impl Mail ===

impl Mail {
    /// # Errors
    /// [`BadMail`]
    pub(super) fn new(settings: &MailSettings, within: Duration) -> Result<Mail, BadMail> {
        let bad_sender = |error| BadMail::From(settings.from.clone(), error);
        let from: Mailbox = settings.from.parse().map_err(bad_sender)?;
        let tls = match settings.security {
            MailSecurity::Tls => Tls::Wrapper(settings.tls()?),
            MailSecurity::StartTls => Tls::Required(settings.tls()?),
            MailSecurity::Plain => Tls::None,
        };
        let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
            .port(settings.port)
            .tls(tls)
            .hello_name(ClientId::Domain(from.email.domain().to_owned()))
            .timeout(Some(within));
        let credentials =
            settings.credentials.clone().map(|(user, password)| Credentials::new(user, password));
        let transport = match credentials {
            Some(credentials) => transport.credentials(credentials),
            None => transport,
        };
        Ok(Mail { transport: transport.build(), from, within })
    }

    /// Dropping the future leaves it open whether the server took the message.
    ///
    /// # Errors
    /// [`MailError`]
    pub(super) async fn send(&self, id: DeliveryId, to: &str, text: &Text) -> Result<(), MailError> {
        let message = Message::builder()
            // The same in every attempt: whoever gets it twice can tell.
            .message_id(Some(format!("<{id}@{}>", self.from.email.domain())))
            .from(self.from.clone())
            .to(to.parse()?)
            .subject(&*text.subject)
            .body(text.body.clone())?;
        let sent = timeout(self.within, self.transport.send(message)).await;
        sent.map_err(|_| MailError::TimedOut(self.within))?.map(drop).map_err(MailError::Smtp)
    }
}

// === impl MailSettings ===

impl MailSettings {
    fn tls(&self) -> Result<TlsParameters, BadMail> {
        let builder = TlsParameters::builder(self.host.clone());
        let builder = match &self.ca {
            Some(path) => {
                let pem = std::fs::read(path).map_err(|error| BadMail::Read(path.clone(), error))?;
                let authorities = Certificate::from_pem(&pem).map_err(BadMail::Tls)?;
                builder.certificate_store(CertificateStore::None).add_root_certificate(authorities)
            }
            None => builder,
        };
        builder.build_rustls().map_err(BadMail::Tls)
    }
}

// === impl MailError ===

impl MailError {
    /// Whether another attempt would fare no better.
    pub(super) fn is_final(&self) -> bool {
        match self {
            MailError::Address(_) | MailError::Message(_) => true,
            MailError::Smtp(error) => error.is_permanent(),
            MailError::TimedOut(_) => false,
        }
    }
}
