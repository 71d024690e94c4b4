#!/bin/bash
# Run once by the postgres image, on an empty database: the role that gateways serve as. It owns nothing; the tables,
# and the rights on them, are made by `tollgate migrate` as the administrator.
set -euo pipefail
psql --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --set=ON_ERROR_STOP=1 \
    --set=password="$TOLLGATE_DB_PASSWORD" <<'SQL'
CREATE ROLE tollgate LOGIN NOINHERIT PASSWORD :'password';
SQL
