INSERT INTO t VALUES ('a', 1, 'x', 1), ('a', 2, 'y', 2), ('b', 1, 'z', 3), ('B', 3, 'w', 4);
UPDATE t SET k2 = k2 + 10 WHERE k1 = 'a';
UPDATE t SET k1 = 'c', v = 9 WHERE k3 = 'z';
DELETE FROM t WHERE k1 = 'b';
INSERT INTO p VALUES ('prefix one', 1), ('another', 2);
UPDATE p SET v = v + 1;
UPDATE p SET k = 'prefix two' WHERE v = 2;
DELETE FROM p WHERE v = 3;
