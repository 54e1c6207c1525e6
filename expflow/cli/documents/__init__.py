"""What commands answer to programs (``--json``): one object of plain data each, with a version and a schema.

Every document is a dataclass whose attributes are described where it is declared; the schema is made from that
(``expflow schema --of NAME``) and frozen by a test. A field that is added leaves the version; one that changes its
meaning or goes away raises it.
"""
