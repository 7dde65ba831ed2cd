INSERT INTO parent VALUES (1, 1), (2, 2), (3, 3);
INSERT INTO child VALUES (10, 1), (11, 1), (20, 2), (30, 3), (40, NULL);
INSERT INTO grandchild VALUES (100, 10), (101, 11), (200, 20), (300, 30);
DELETE FROM parent WHERE id = 1;
UPDATE parent SET id = 9 WHERE id = 2;
UPDATE child SET id = 21 WHERE id = 20;
--! sync
DELETE FROM parent WHERE id = 9;
INSERT INTO parent VALUES (9, 9);
INSERT INTO child VALUES (90, 9);
DELETE FROM parent;
