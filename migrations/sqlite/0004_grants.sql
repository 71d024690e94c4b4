-- Grants by the store are for fleets, and those are on Postgres. Here only the number is kept.
SELECT 4;
