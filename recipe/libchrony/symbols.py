"""Loads the library of this environment, and looks up each function that pychrony calls."""

import ctypes
import os

FUNCTIONS = [
    "chrony_close_socket",
    "chrony_deinit_session",
    "chrony_get_error_string",
    "chrony_get_field_constant_name",
    "chrony_get_field_content",
    "chrony_get_field_float",
    "chrony_get_field_integer",
    "chrony_get_field_name",
    "chrony_get_field_string",
    "chrony_get_field_timespec",
    "chrony_get_field_type",
    "chrony_get_field_uinteger",
    "chrony_get_number_supported_reports",
    "chrony_get_record_number_fields",
    "chrony_get_report_name",
    "chrony_get_report_number_records",
    "chrony_init_session",
    "chrony_needs_response",
    "chrony_open_socket",
    "chrony_process_response",
    "chrony_request_record",
    "chrony_request_report_number_records",
]

if __name__ == "__main__":
    library = ctypes.CDLL(os.path.join(os.environ["PREFIX"], "lib", "libchrony.so.0"))
    for function in FUNCTIONS:
        getattr(library, function)
    print(f"libchrony has all {len(FUNCTIONS)} functions")
