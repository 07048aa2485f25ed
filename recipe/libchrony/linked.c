/* Links to the library and calls it: that works only if its soname is a file in the package. */

int chrony_get_number_supported_reports(void);

int main(void)
{
    return chrony_get_number_supported_reports() > 0 ? 0 : 1;
}
