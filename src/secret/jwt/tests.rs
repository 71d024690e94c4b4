mod rules;
mod signer;
mod vectors;
