"""Object stores: a set in one (`s3://`, `gs://`, `az://`, `https://`) has a mirror on this machine.

Imports `system`. `mirror` makes a local folder of an address, whose shards `cache` fetches whole
and `ranges` reads before they are there; `client` sends all requests and counts them. Begin with
`mirror`; its test is tests/records/stores/mirror_test.py, the faults are in client_test.py.
"""
