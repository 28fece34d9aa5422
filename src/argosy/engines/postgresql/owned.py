"""PostgreSQL's parameters that are Argosy's to set, and why."""

from __future__ import annotations

OWNED = {
    "Argosy keeps the instance's files where it finds them": (
        "config_file data_directory hba_file ident_file external_pid_file data_directory_mode"
    ),
    "it is the way in, for clients and for Argosy": (
        "listen_addresses port unix_socket_* bonjour* authentication_timeout superuser_reserved_connections"
        " krb_* db_user_namespace gss_accept_delegation oauth_validator_libraries"
    ),
    "Argosy issues the certificates and decides on TLS": (
        "ssl ssl_*_file ssl_crl_dir ssl_min_protocol_version ssl_max_protocol_version"
    ),
    "it would run programs on the host": (
        "archive_* restore_command recovery_end_command ssl_passphrase_command*"
    ),
    "it would load code into the server": (
        "shared_preload_libraries session_preload_libraries local_preload_libraries dynamic_library_path"
        " extension_control_path jit_provider"
    ),
    "a committed transaction must survive the loss of power": "fsync full_page_writes data_sync_retry",
    "Argosy decides who follows whom": (
        "primary_conninfo primary_slot_name recovery_target* recovery_min_apply_delay hot_standby"
        " promote_trigger_file synchronous_standby_names synchronized_standby_slots sync_replication_slots"
        " wal_receiver_create_temp_slot cluster_name"
    ),
    "Argosy reads the log, and keeps it": (
        "log_destination logging_collector log_directory log_filename log_file_mode log_rotation_*"
        " log_truncate_on_rotation syslog_* event_source lc_messages"
    ),
    "the group's values take the place of root's": "allow_alter_system",
    "what a killed server leaves behind must go with it": (
        "shared_memory_type dynamic_shared_memory_type huge_pages huge_page_size"
    ),
}
DEVELOPERS = "it is for developers of the server, and can lose data"
