//! What a request costs that is denied, charged once, charged three times, or nobody's.

use crate::fill::{self, fill};
use crate::gateway::Place;
use crate::load::{self, Spread};
use crate::report::Table;
use crate::rig::Fault;
use crate::rig::upstream::Upstream;
use crate::rounds::Rounds;
use crate::{ANSWER_BYTES, OTHER_CORE, Options};

/// How requests fare, and what is asked for.
const SUBJECTS: [(&str, &str); 4] = [
    ("admitted, one charge", "/v1/scan"),
    ("admitted, three charges", "/v1/scan"),
    ("denied", "/v1/scan"),
    ("public route", "/public/scan"),
];
const DENIED: usize = 2;

/// The second tenant's calls count per day as well, and for its key; the third one may not call often.
const LIMITS: [&str; 2] = [
    "INSERT INTO tenant_resource_quotas (tenant_id, owner_kind, owner_id, resource_type, period, limit_amount, enforcement,
        version, created_at, updated_at)
     SELECT quotas.tenant_id, kind, CASE kind WHEN 'key' THEN key_id ELSE owner_id END, resource_type, 'day',
        limit_amount, 'hard', 1, quotas.created_at, quotas.updated_at
     FROM tenant_resource_quotas AS quotas JOIN api_keys USING (tenant_id)
        JOIN (SELECT 'tenant' AS kind UNION ALL SELECT 'key')
     WHERE hex(quotas.tenant_id) LIKE '%1'",
    "UPDATE tenant_resource_quotas SET limit_amount = 100 WHERE hex(tenant_id) LIKE '%2'",
];

pub(crate) fn measure(options: &Options) -> Result<Table, Fault> {
    let directory = tempfile::tempdir().map_err(|error| format!("a temporary directory: {error}"))?;
    let database = directory.path().join("tollgate.db");
    let mut keys = fill(&database, 3, 3)?;
    // Who asks for the public route shows a key that nobody looks at.
    keys.push(keys[0].clone());
    fill::change(&database, &LIMITS)?;
    let upstream = Upstream::start(OTHER_CORE, ANSWER_BYTES)?;
    let gateway = Place::new(directory.path(), &database, upstream.port).start(options)?;
    let spreads = SUBJECTS.iter().zip(&keys).enumerate().map(|(number, ((_, path), key))| {
        Spread::over(std::slice::from_ref(key), path, directory.path(), &number.to_string())
    });
    let spreads = spreads.collect::<Result<Vec<_>, _>>()?;
    let rounds = Rounds::run(options.rounds, SUBJECTS.len(), |subject| {
        load::warm_up(&spreads[subject], &[&gateway])?;
        let spent = spreads[subject].spent(&[&gateway], &[], options.time())?;
        if subject == DENIED { spent.all_refused() } else { spent.all_admitted() }
    })?;
    let mut table = Table::new("requests that are");
    for (number, (name, _)) in SUBJECTS.iter().enumerate() {
        table.add(rounds.row(number, *name));
    }
    Ok(table)
}
