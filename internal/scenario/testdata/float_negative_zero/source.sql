INSERT INTO t VALUES (1, -0e0, -0e0), (2, 0e0, 0e0);
UPDATE t SET f = -f, d = -d;
INSERT INTO t VALUES (3, -0e0, -0e0);
