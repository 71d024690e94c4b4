//! The schema's versions, applied in order, each once.
//!
//! On SQLite whoever starts migrates. On Postgres that is `tollgate migrate`, under a login that may make roles and
//! owns the database; serving, whose login owns nothing, only looks whether it was done.

use sha2::{Digest, Sha256};

use super::pool::{Begun, Pools, Role, StoreUrl};
use super::sql::{Dialect, query};
use super::values::{digest, get, scalar};
use super::{Snapshot, Store, StoreError, Tx};

/// A step of the schema, in both dialects. Once released, its texts never change: a later one corrects it.
struct Migration {
    number: i64,
    name: &'static str,
    postgres: &'static str,
    sqlite: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        name: "0001_control_plane",
        postgres: include_str!("../../migrations/postgres/0001_control_plane.sql"),
        sqlite: include_str!("../../migrations/sqlite/0001_control_plane.sql"),
    },
    Migration {
        number: 2,
        name: "0002_usage",
        postgres: include_str!("../../migrations/postgres/0002_usage.sql"),
        sqlite: include_str!("../../migrations/sqlite/0002_usage.sql"),
    },
    Migration {
        number: 3,
        name: "0003_loss_policies",
        postgres: include_str!("../../migrations/postgres/0003_loss_policies.sql"),
        sqlite: include_str!("../../migrations/sqlite/0003_loss_policies.sql"),
    },
    Migration {
        number: 4,
        name: "0004_grants",
        postgres: include_str!("../../migrations/postgres/0004_grants.sql"),
        sqlite: include_str!("../../migrations/sqlite/0004_grants.sql"),
    },
    Migration {
        number: 5,
        name: "0005_usage_events",
        postgres: include_str!("../../migrations/postgres/0005_usage_events.sql"),
        sqlite: include_str!("../../migrations/sqlite/0005_usage_events.sql"),
    },
    Migration {
        number: 6,
        name: "0006_data_keys",
        postgres: include_str!("../../migrations/postgres/0006_data_keys.sql"),
        sqlite: include_str!("../../migrations/sqlite/0006_data_keys.sql"),
    },
    Migration {
        number: 7,
        name: "0007_idempotency",
        postgres: include_str!("../../migrations/postgres/0007_idempotency.sql"),
        sqlite: include_str!("../../migrations/sqlite/0007_idempotency.sql"),
    },
    Migration {
        number: 8,
        name: "0008_people",
        postgres: include_str!("../../migrations/postgres/0008_people.sql"),
        sqlite: include_str!("../../migrations/sqlite/0008_people.sql"),
    },
    Migration {
        number: 9,
        name: "0009_audit_checkpoints",
        postgres: include_str!("../../migrations/postgres/0009_audit_checkpoints.sql"),
        sqlite: include_str!("../../migrations/sqlite/0009_audit_checkpoints.sql"),
    },
    Migration {
        number: 10,
        name: "0010_versions",
        postgres: include_str!("../../migrations/postgres/0010_versions.sql"),
        sqlite: include_str!("../../migrations/sqlite/0010_versions.sql"),
    },
    Migration {
        number: 11,
        name: "0011_alerts",
        postgres: include_str!("../../migrations/postgres/0011_alerts.sql"),
        sqlite: include_str!("../../migrations/sqlite/0011_alerts.sql"),
    },
    Migration {
        number: 12,
        name: "0012_bulk",
        postgres: include_str!("../../migrations/postgres/0012_bulk.sql"),
        sqlite: include_str!("../../migrations/sqlite/0012_bulk.sql"),
    },
    Migration {
        number: 13,
        name: "0013_billing",
        postgres: include_str!("../../migrations/postgres/0013_billing.sql"),
        sqlite: include_str!("../../migrations/sqlite/0013_billing.sql"),
    },
    Migration {
        number: 14,
        name: "0014_export",
        postgres: include_str!("../../migrations/postgres/0014_export.sql"),
        sqlite: include_str!("../../migrations/sqlite/0014_export.sql"),
    },
    Migration {
        number: 15,
        name: "0015_money",
        postgres: include_str!("../../migrations/postgres/0015_money.sql"),
        sqlite: include_str!("../../migrations/sqlite/0015_money.sql"),
    },
    Migration {
        number: 16,
        name: "0016_told",
        postgres: include_str!("../../migrations/postgres/0016_told.sql"),
        sqlite: include_str!("../../migrations/sqlite/0016_told.sql"),
    },
    Migration {
        number: 17,
        name: "0017_stops",
        postgres: include_str!("../../migrations/postgres/0017_stops.sql"),
        sqlite: include_str!("../../migrations/sqlite/0017_stops.sql"),
    },
];

impl Store {
    /// Applies the migrations that the database lacks, all of them or none, and loads the shipped tiers that it
    /// does not know. Two processes may do it at the same time: the second finds nothing left to do.
    ///
    /// # Errors
    /// [`StoreError`]; then the schema is as it was. [`StoreError::TooNew`] for a database that a newer program
    /// has migrated, [`StoreError::MigrationChanged`] for one that was migrated from other files.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.migrate_with(None).await
    }

    /// The same, and lets the login of `serving` serve: makes it a member of the roles that it works as.
    ///
    /// # Errors
    /// As [`Store::migrate`]; [`StoreError::NoLogin`] if the server has no such role.
    pub async fn migrate_for(&self, serving: &StoreUrl) -> Result<(), StoreError> {
        self.migrate_with(serving.login()?).await
    }

    async fn migrate_with(&self, login: Option<String>) -> Result<(), StoreError> {
        let mut tx = self.begin_migration().await?;
        tx.apply(MIGRATIONS).await?;
        tx.load_shipped_tiers().await?;
        if tx.connection().dialect() == Dialect::Postgres {
            tx.write_notes().await?;
            tx.finish_postgres(login).await?;
        }
        tx.commit().await
    }

    /// Makes the database ready to serve: migrates SQLite; of Postgres only sees to it that it is.
    ///
    /// # Errors
    /// As [`Store::migrate`] and [`Store::inspect`].
    pub async fn prepare(&self) -> Result<(), StoreError> {
        match &self.pools {
            Pools::Postgres(_) => self.inspect().await,
            Pools::Sqlite(_) => self.migrate().await,
        }
    }

    /// Whether the database was migrated, and keeps tenants apart. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotMigrated`] and [`StoreError::NotIsolated`] say what to do.
    pub async fn inspect(&self) -> Result<(), StoreError> {
        if let Pools::Postgres(pools) = &self.pools {
            let mut login = Snapshot::of(Begun::Postgres(pools.read(Role::Login).await?));
            login.refuse_unmade().await?;
            login.refuse_unisolated().await?;
        }
        let mut snapshot = self.read().await?;
        let dialect = snapshot.connection().dialect();
        let lacking = missing(MIGRATIONS, &snapshot.applied_migrations().await?, dialect)?;
        lacking.first().map_or(Ok(()), |first| Err(first.is_missing()))
    }
}

impl Snapshot {
    async fn refuse_unmade(&mut self) -> Result<(), StoreError> {
        let found = query("SELECT to_regclass('tollgate_migrations') IS NOT NULL");
        let is_made = scalar(&found.fetch_one(self.connection()).await?)?;
        if is_made { Ok(()) } else { Err(MIGRATIONS[0].is_missing()) }
    }

    async fn applied_migrations(&mut self) -> Result<Vec<(i64, [u8; 32])>, StoreError> {
        let text = match self.connection().dialect() {
            Dialect::Postgres => "SELECT number, checksum FROM tollgate_migrations ORDER BY number",
            Dialect::Sqlite => "SELECT number, checksum FROM schema_migrations ORDER BY number",
        };
        let rows = query(text).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok((get(row, "number")?, digest(row, "checksum")?))).collect()
    }
}

/// Those that were not applied.
fn missing(
    migrations: &'static [Migration],
    applied: &[(i64, [u8; 32])],
    dialect: Dialect,
) -> Result<Vec<&'static Migration>, StoreError> {
    let newest = migrations.iter().map(|migration| migration.number).max().unwrap_or(0);
    if let Some((number, _)) = applied.iter().find(|(number, _)| *number > newest) {
        return Err(StoreError::TooNew(*number));
    }
    let mut missing = Vec::new();
    for migration in migrations {
        match applied.iter().find(|(number, _)| *number == migration.number) {
            None => missing.push(migration),
            Some((_, checksum)) if *checksum == migration.checksum(dialect) => {}
            Some(_) => {
                let Migration { number, name, .. } = *migration;
                return Err(StoreError::MigrationChanged { number, name });
            }
        }
    }
    Ok(missing)
}

impl Tx {
    async fn apply(&mut self, migrations: &'static [Migration]) -> Result<(), StoreError> {
        self.make_migrations_table().await?;
        let applied = self.applied_migrations().await?;
        let dialect = self.connection().dialect();
        for migration in missing(migrations, &applied, dialect)? {
            self.apply_one(migration, dialect).await?;
        }
        Ok(())
    }

    async fn make_migrations_table(&mut self) -> Result<(), StoreError> {
        let table = match self.connection().dialect() {
            // Not called as on SQLite: the program that had this database first may well have a table of that name.
            Dialect::Postgres => {
                "DO $$ BEGIN
                    IF to_regclass('tollgate_migrations') IS NULL THEN
                        CREATE TABLE tollgate_migrations (
                            number BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum BYTEA NOT NULL,
                            applied_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP);
                    ELSE
                        SET LOCAL ROLE tollgate_owner;
                    END IF;
                END $$"
            }
            Dialect::Sqlite => {
                "CREATE TABLE IF NOT EXISTS schema_migrations (
                    number BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum BLOB NOT NULL,
                    applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
            }
        };
        Ok(self.connection().run(table).await?)
    }

    async fn apply_one(&mut self, migration: &'static Migration, dialect: Dialect) -> Result<(), StoreError> {
        let Migration { number, name, .. } = *migration;
        let failed = |source| StoreError::Migration { number, name, source };
        self.connection().run(migration.text(dialect)).await.map_err(failed)?;
        let note = match dialect {
            // The first makes the owner; everything after it is done as the owner.
            Dialect::Postgres => {
                self.connection().run("SET LOCAL ROLE tollgate_owner").await?;
                "INSERT INTO tollgate_migrations (number, name, checksum) VALUES ($1, $2, $3)"
            }
            Dialect::Sqlite => "INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, $3)",
        };
        let note = query(note).bind(number).bind(name).bind(&migration.checksum(dialect)[..]);
        note.execute(self.connection()).await.map(drop)
    }

    /// What follows the migrations on Postgres, each time.
    async fn finish_postgres(&mut self, login: Option<String>) -> Result<(), StoreError> {
        self.connection().run(include_str!("migrate/finish.sql")).await?;
        let Some(login) = login else { return Ok(()) };
        let found = query("SELECT COUNT(*) FROM pg_roles WHERE rolname = $1").bind(&login);
        if found.fetch_number(self.connection()).await? == 0 {
            return Err(StoreError::NoLogin(login));
        }
        let tell = query("SELECT set_config('tollgate.login', $1, true)").bind(login);
        tell.execute(self.connection()).await?;
        Ok(self.connection().run(include_str!("migrate/serving.sql")).await?)
    }
}

// === impl Migration ===

impl Migration {
    const fn text(&self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Postgres => self.postgres,
            Dialect::Sqlite => self.sqlite,
        }
    }

    fn checksum(&self, dialect: Dialect) -> [u8; 32] {
        Sha256::digest(self.text(dialect)).into()
    }

    const fn is_missing(&self) -> StoreError {
        StoreError::NotMigrated { number: self.number, name: self.name }
    }
}

#[cfg(test)]
mod tests;
