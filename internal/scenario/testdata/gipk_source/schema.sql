SET sql_generate_invisible_primary_key = ON;
CREATE TABLE t (v VARCHAR(9));
