"""Results in buckets, `s3://bucket/prefix` and `gs://bucket/prefix`: folders that mirror them."""
