INSERT INTO t VALUES (1, 'a', 'a', 'a'), (2, '', '', ''), (3, NULL, NULL, NULL), (4, x'6100620000', x'6100', x'00ff00ff'),
  (5, x'0000000000', x'00', x'00'), (6, x'2020202020', x'20', x'20'), (7, x'ffffffffff', x'ff5c27220a', x'5c');
UPDATE t SET b = CONCAT(b, x'00') WHERE id <> 3;
DELETE FROM t WHERE a = x'6100000000';
INSERT INTO k VALUES (x'61000000', x'', 1), (x'61200000', x'00', 2), (x'00000000', x'0000', 3);
UPDATE k SET k2 = CONCAT(k2, x'00');
DELETE FROM k WHERE v = 2;
INSERT INTO none VALUES (x'610000', x'6100'), (x'61', x'61'), (x'61', x'61');
DELETE FROM none WHERE v = x'61' LIMIT 1;
