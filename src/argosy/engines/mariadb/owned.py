"""MariaDB's parameters that are Argosy's to set, and why."""

from __future__ import annotations

OWNED = {
    "Argosy keeps the instance's files where it finds them": (
        "basedir datadir tmpdir slave_load_tmpdir plugin_dir lc_messages_dir character_sets_dir pid_file"
        " secure_file_priv init_file innodb_data_home_dir innodb_data_file_path innodb_log_group_home_dir"
        " innodb_undo_directory innodb_tmpdir innodb_temp_data_file_path innodb_buffer_pool_filename"
        " aria_log_dir_path ft_stopword_file ignore_db_dirs"
    ),
    "it is the way in, for clients and for Argosy": (
        "bind_address port extra_port extra_max_connections socket skip_networking skip_name_resolve"
        " skip_grant_tables proxy_protocol_networks redirect_url strict_password_validation"
        " default_password_lifetime secure_auth old_passwords"
    ),
    "Argosy issues the certificates and decides on TLS": (
        "ssl_ca ssl_capath ssl_cert ssl_cipher ssl_key ssl_crl ssl_crlpath tls_version require_secure_transport"
    ),
    "it would load code into the server": "plugin_load* allow_suspicious_udfs plugin_maturity",
    "a committed transaction must survive the loss of power": (
        "innodb_flush_log_at_trx_commit sync_binlog innodb_doublewrite innodb_flush_method"
        " innodb_data_file_buffering innodb_log_file_buffering"
    ),
    "it would stop the server from changing data, or hide damage": (
        "innodb_force_recovery innodb_read_only read_only ignore_builtin_innodb"
        " aria_force_start_after_recovery_failures"
    ),
    "the data directory was made with it": (
        "innodb_page_size lower_case_table_names innodb_undo_tablespaces aria_block_size symbolic_links"
        " innodb_checksum_algorithm"
    ),
    "Argosy decides who follows whom": (
        "server_id report_* log_bin log_bin_index relay_log relay_log_index relay_log_info_file"
        " log_slave_updates binlog_format gtid_domain_id gtid_strict_mode gtid_ignore_duplicates init_slave"
        " slave_skip_errors slave_exec_mode slave_transaction_retry_errors rpl_semi_sync_* replicate_*"
        " binlog_do_db binlog_ignore_db read_binlog_speed_limit"
    ),
    "clusters are not made by hand": "wsrep_*",
    "Argosy reads the log, and keeps it": (
        "general_log_file slow_query_log_file log_slow_query_file log_error log_output server_audit_file_*"
        " server_audit_output_type server_audit_excl_users server_audit_syslog_* server_audit_mode"
    ),
    "it is an order to the server, not a setting": (
        "innodb_buffer_pool_dump_now innodb_buffer_pool_load_now innodb_buffer_pool_load_abort"
        " innodb_log_checkpoint_now innodb_max_purge_lag_wait innodb_monitor_*"
        " innodb_truncate_temporary_tablespace_now innodb_ft_aux_table"
    ),
    "it would dump memory, secrets and all, to a file": "core_file innodb_buffer_pool_in_core_dump",
}
