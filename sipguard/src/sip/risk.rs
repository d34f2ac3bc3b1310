//! What toll fraudsters have called: numbers whose price they have a share in (international revenue share fraud).
//!
//! A short list of public reports, and no more: whoever is called from a gateway that was broken into changes from month to month, and most calls to these
//! countries are honest ones. It marks what is worth a look.

/// What such numbers begin with, from the country's code on, in order.
#[rustfmt::skip]
const HIGH: &[&str] = &[
    // Warned of by the FBI (February 2014): Barbados, Anguilla, Antigua, British Virgin Islands, Grenada, Turks and Caicos, Montserrat, Dominica.
    "1246", "1264", "1268", "1284", "1473", "1649", "1664", "1767",
    // Warned of by the Federal Communications Commission of the United States ("one ring", May 2019): Dominican Republic, Jamaica, Mauritania, Sierra Leone.
    "1809", "1829", "1849", "1876", "222", "232",
    // Premium numbers of North America, by their numbering plan.
    "1900",
    // Named by those who trace such calls (The Atlantic, "Cuban telephone fraud", December 2016): Cuba, Somalia, Latvia.
    "252", "371", "53",
    // Assigned by the ITU to satellites, networks at sea and in the air, and international premium numbers: whatever they cost, it is much.
    "870", "881", "882", "883", "979",
];

pub(super) fn is_high(digits: &str) -> bool {
    HIGH.iter().any(|prefix| digits.starts_with(prefix))
}
