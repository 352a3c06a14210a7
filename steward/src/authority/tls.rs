//! The fleet's own certificate authority, and the broker's certificate.
//!
//! The CA lasts as long as the fleet: nodes hold it, and some of them are away for long. The broker's certificate is
//! renewed by `steward broker` long before it ends, and by `steward rotate --broker` at any time.

use std::time::Duration;

use jiff::civil::Date;
use protocol::time::Wall;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

/// How long a certificate of the broker holds.
const SERVER_DAYS: i32 = 365;

/// So long before its end it is renewed.
pub(super) const RENEW_BEFORE: Duration = Duration::from_secs(120 * 86_400);

/// So long before its end an operator is told, because whoever should have renewed it has not.
pub(crate) const TOLD_BEFORE: Duration = Duration::from_secs(60 * 86_400);

/// How long the CA holds.
const CA_YEARS: i16 = 100;

/// From when on certificates hold: a node whose clock has forgotten the time starts somewhere after this, and must get in
/// all the same.
const FROM_YEAR: i32 = 1975;

/// A certificate and its key, as PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// Makes the CA of a fleet with this public key.
pub(super) fn authority(fleet: &str, now: Wall) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate()?;
    let certificate = ca_params(fleet, now).self_signed(&key)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Makes a certificate of the broker for these host names and addresses; with it, until when it holds.
pub(super) fn server(fleet: &str, ca_key: &str, hosts: &[String], now: Wall) -> Result<(Pair, Wall), rcgen::Error> {
    // What is said of the CA but its name and key has no part in what it signs.
    let issuer = Issuer::new(ca_params(fleet, now), KeyPair::from_pem(ca_key)?);
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = named("steward broker");
    let until = day(now).saturating_add(jiff::Span::new().days(SERVER_DAYS));
    params.not_before = date_time_ymd(FROM_YEAR, 1, 1);
    params.not_after = date_time_ymd(until.year().into(), until.month().unsigned_abs(), until.day().unsigned_abs());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    let until = Wall(now.0 + u64::try_from(SERVER_DAYS).unwrap_or_default() * 86_400_000);
    Ok((Pair { certificate: certificate.pem(), key: key.serialize_pem() }, until))
}

fn ca_params(fleet: &str, now: Wall) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Two fleets of one organisation have to have CAs of different names, or clients mix them up.
    let short = fleet.get(..12).unwrap_or(fleet);
    params.distinguished_name = named(&format!("steward fleet {short}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let until = day(now).saturating_add(jiff::Span::new().years(CA_YEARS));
    params.not_before = date_time_ymd(FROM_YEAR, 1, 1);
    params.not_after = date_time_ymd(until.year().into(), until.month().unsigned_abs(), until.day().unsigned_abs());
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn day(now: Wall) -> Date {
    let seconds = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
    let now = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    now.to_zoned(jiff::tz::TimeZone::UTC).date()
}
