INSERT INTO t VALUES (1, '{"b": 1, "a": [1, 2.5, "x", null, true, false], "": {}}'), (2, NULL), (3, 'null'), (4, '[]'), (5, '"text \\" \\\\ \\u0001 😀 é"'),
  (6, '[9223372036854775807, -9223372036854775808, 18446744073709551615]'), (7, '[1.0, 0.1, 1e308, -1e-308, 0.0]'), (8, '{"k": "</script>&<a>"}');
INSERT INTO t VALUES (9, CONCAT('{"long": "', REPEAT('x', 70000), '", "n": 1}'));
UPDATE t SET j = '{"new": [1, 2, 3]}' WHERE id = 1;
--! on 9.7
UPDATE t SET j = JSON_SET(j, '$.n', 2) WHERE id = 9;
--! all
DELETE FROM t WHERE id = 4;
