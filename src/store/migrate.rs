//! The schema's versions, applied in order, each once.

use sha2::{Digest, Sha256};

use super::values::{digest, get};
use super::{Store, StoreError, Tx};

/// A step of the schema. Once released, its text never changes: a later one corrects it.
struct Migration {
    number: i64,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        name: "0001_control_plane",
        sql: include_str!("../../migrations/sqlite/0001_control_plane.sql"),
    },
    Migration { number: 2, name: "0002_usage", sql: include_str!("../../migrations/sqlite/0002_usage.sql") },
];

impl Store {
    /// Applies the migrations that the database lacks, all of them or none, and loads the shipped tiers that it
    /// does not know. Two processes may do it at the same time: the second finds nothing left to do.
    ///
    /// # Errors
    /// [`StoreError`]; then the schema is as it was. [`StoreError::TooNew`] for a database that a newer program
    /// has migrated, [`StoreError::MigrationChanged`] for one that was migrated from other files.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        tx.apply(MIGRATIONS).await?;
        tx.load_shipped_tiers().await?;
        tx.commit().await
    }
}

impl Tx {
    async fn apply(&mut self, migrations: &'static [Migration]) -> Result<(), StoreError> {
        let applied = self.applied_migrations().await?;
        if let Some((number, _)) = applied.iter().find(|(number, _)| *number > newest(migrations)) {
            return Err(StoreError::TooNew(*number));
        }
        for migration in migrations {
            match applied.iter().find(|(number, _)| *number == migration.number) {
                None => self.apply_one(migration).await?,
                Some((_, checksum)) if *checksum == migration.checksum() => {}
                Some(_) => {
                    let Migration { number, name, .. } = *migration;
                    return Err(StoreError::MigrationChanged { number, name });
                }
            }
        }
        Ok(())
    }

    async fn applied_migrations(&mut self) -> Result<Vec<(i64, [u8; 32])>, StoreError> {
        let table = "CREATE TABLE IF NOT EXISTS schema_migrations (
            number BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum BLOB NOT NULL,
            applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)";
        sqlx::raw_sql(table).execute(self.connection()).await?;
        let rows = sqlx::query("SELECT number, checksum FROM schema_migrations ORDER BY number")
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(|row| Ok((get(row, "number")?, digest(row, "checksum")?))).collect()
    }

    async fn apply_one(&mut self, migration: &'static Migration) -> Result<(), StoreError> {
        let Migration { number, name, sql } = *migration;
        sqlx::raw_sql(sql).execute(self.connection()).await.map_err(|source| StoreError::Migration {
            number,
            name,
            source,
        })?;
        sqlx::query("INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, $3)")
            .bind(number)
            .bind(name)
            .bind(migration.checksum().to_vec())
            .execute(self.connection())
            .await?;
        Ok(())
    }
}

fn newest(migrations: &[Migration]) -> i64 {
    migrations.iter().map(|migration| migration.number).max().unwrap_or(0)
}

// === impl Migration ===

impl Migration {
    fn checksum(&self) -> [u8; 32] {
        Sha256::digest(self.sql).into()
    }
}

#[cfg(test)]
mod tests;
