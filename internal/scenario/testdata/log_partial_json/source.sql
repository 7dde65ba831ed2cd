SET binlog_row_value_options = PARTIAL_JSON;
INSERT INTO t VALUES (1, '{"a": [1, 2, {"b": "x"}], "c": null}', 1), (2, '{}', 2), (3, NULL, 3);
UPDATE t SET j = JSON_SET(j, '$.a[2].b', 'longer than it was', '$.d', 4) WHERE id = 1;
UPDATE t SET j = JSON_REMOVE(j, '$.a[0]', '$.c') WHERE id = 1;
UPDATE t SET j = JSON_REPLACE(j, '$.a[0]', JSON_OBJECT('n', 1.5)), n = n + 1 WHERE id = 1;
UPDATE t SET j = JSON_SET(j, '$.k', 1) WHERE id IN (2, 3);
UPDATE t SET n = 0;
SET binlog_row_value_options = '';
UPDATE t SET j = JSON_ARRAY(j) WHERE id = 1;
