"""What benches read: labelled schemas, vocabularies, schemas with documents to replay, requests with known answers."""
