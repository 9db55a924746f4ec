//! Profiles of the files of the AWS command line: `~/.aws/credentials` and `~/.aws/config`.
//!
//! Read are keys, token, region and endpoint. Credentials that have to be fetched, by a role, by
//! single sign-on or by a program, are not: `aws configure export-credentials` prints them.
//! Precedence is that of the AWS programs: what is passed, a profile that is named in a program,
//! the environment, the profile of `AWS_PROFILE` or `default`, the identity of the machine.

use super::connect::{ConnectError, RemoteOptions};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

type Settings = HashMap<String, String>;

/// Ways to get credentials that are not built in.
const FETCHED: [&str; 6] = [
    "login_session",
    "role_arn",
    "credential_process",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
];
/// What makes the environment complete without a profile.
const IN_ENVIRONMENT: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"];

/// The options for S3, with what a profile adds to them.
pub(super) fn with_profile(options: &RemoteOptions) -> Result<RemoteOptions, ConnectError> {
    with_profile_of(options, &|name| {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    })
}

fn with_profile_of(
    options: &RemoteOptions,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<RemoteOptions, ConnectError> {
    let mut options = options.clone();
    if options.profile.is_none() && options.access_key_id.is_some() && options.region.is_some() {
        // nothing else is needed
        return Ok(options);
    }
    let named = options.profile.clone().or_else(|| variable("AWS_PROFILE"));
    let name = named.as_deref().unwrap_or("default");
    let settings = match settings(name, variable) {
        // no one has asked for these files
        Err(_) if named.is_none() => None,
        found => found?,
    };
    let Some(settings) = settings else {
        return match named {
            None => Ok(options),
            Some(_) if options.profile.is_none() && options.access_key_id.is_some() => Ok(options),
            Some(name) => Err(ConnectError::Invalid(format!(
                "There is no profile {name:?} in the files of the AWS command line"
            ))),
        };
    };
    let of = |key: &str| settings.get(key).cloned();
    let in_environment =
        |names: &[&str]| options.profile.is_none() && names.iter().any(|name| variable(name).is_some());
    if options.access_key_id.is_none() && !in_environment(&IN_ENVIRONMENT) {
        match (of("aws_access_key_id"), of("aws_secret_access_key")) {
            (Some(id), Some(secret)) => {
                options.access_key_id = Some(id);
                options.secret_access_key = Some(secret);
                options.session_token = of("aws_session_token");
            }
            _ => {
                if let (Some(name), Some(way)) = (&named, FETCHED.iter().find(|key| settings.contains_key(**key))) {
                    return Err(ConnectError::Invalid(format!(
                        "Profile {name:?} gets its credentials by {way}, which is not built in: set those that `aws \
                         configure export-credentials --profile {name} --format env` prints"
                    )));
                }
            }
        }
    }
    if options.region.is_none() && !in_environment(&["AWS_REGION", "AWS_DEFAULT_REGION"]) {
        options.region = of("region");
    }
    let endpoints = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    if options.endpoint.is_none() && !in_environment(&endpoints) {
        options.endpoint = of("endpoint_url");
    }
    Ok(options)
}

/// The settings of a profile in both files; `None` when neither has it.
fn settings(name: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Settings>, ConnectError> {
    let home = variable("HOME").or_else(|| variable("USERPROFILE"));
    let path = |from: &str, usual: &str| {
        let given = variable(from).map(PathBuf::from);
        given.or_else(|| home.as_ref().map(|home| PathBuf::from(home).join(".aws").join(usual)))
    };
    let mut found: Option<Settings> = None;
    // the keys of the credentials win
    for (path, prefix) in [
        (path("AWS_CONFIG_FILE", "config"), "profile "),
        (path("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ""),
    ] {
        let Some(path) = path else { continue };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(ConnectError::Invalid(format!(
                    "{} cannot be read: {error}",
                    path.display()
                )));
            }
        };
        // `[profile default]` exists too
        let usual = format!("{prefix}{name}");
        let sections = [(name == "default").then_some(name), Some(usual.as_str())];
        for settings in sections
            .into_iter()
            .flatten()
            .filter_map(|section| section_of(&text, section))
        {
            found.get_or_insert_default().extend(settings);
        }
    }
    Ok(found)
}

/// The settings of a section; `None` when it is missing.
fn section_of(text: &str, section: &str) -> Option<Settings> {
    let mut found: Option<Settings> = None;
    let mut is_inside = false;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.split(']').next().unwrap_or_default();
            // `[profile  name]` counts too
            is_inside = name.split_whitespace().eq(section.split_whitespace());
            if is_inside {
                found.get_or_insert_default();
            }
        } else if let (true, Some(settings), Some((key, value))) = (is_inside, &mut found, line.split_once('='))
            // an indented line belongs to a setting of its own
            && !line.starts_with([' ', '\t', '#', ';'])
        {
            settings.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests may")]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "# mine\n[default]\naws_access_key_id = one\naws_secret_access_key=first\n\n[shop]\n\
                               aws_access_key_id = two\naws_secret_access_key = sec=ond\naws_session_token = token\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1\n[profile shop]\nregion = eu-central-1\nendpoint_url = \
                          https://store.example\ns3 =\n  region = nested\n; region = old\n[profile role]\nrole_arn = \
                          arn:aws:iam::1:role/x\nsource_profile = default\n";

    /// Options and environment in, and what comes out: key, secret, token, region, endpoint.
    fn merged(options: RemoteOptions, environment: &[(&str, &str)]) -> Result<[Option<String>; 5], String> {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("AWS_SHARED_CREDENTIALS_FILE", CREDENTIALS),
            ("AWS_CONFIG_FILE", CONFIG),
        ];
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let variable = |name: &str| match files.iter().any(|(file, _)| *file == name) {
            true => Some(folder.path().join(name).to_str().unwrap().to_owned()),
            false => environment
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned()),
        };
        match with_profile_of(&options, &variable) {
            Ok(found) => Ok([
                found.access_key_id,
                found.secret_access_key,
                found.session_token,
                found.region,
                found.endpoint,
            ]),
            Err(ConnectError::Invalid(reason)) => Err(reason),
            Err(other) => panic!("{other:?}"),
        }
    }

    fn some<const N: usize>(values: [&str; N]) -> [Option<String>; N] {
        values.map(|value| (!value.is_empty()).then(|| value.to_owned()))
    }

    fn of(profile: &str) -> RemoteOptions {
        RemoteOptions {
            profile: Some(profile.to_owned()),
            ..RemoteOptions::default()
        }
    }

    #[test]
    fn a_profile_adds_what_is_neither_passed_nor_in_the_environment() {
        let none = RemoteOptions::default;
        let shop = some(["two", "sec=ond", "token", "eu-central-1", "https://store.example"]);
        assert_eq!(
            merged(none(), &[]).unwrap(),
            some(["one", "first", "", "eu-west-1", ""])
        );
        assert_eq!(merged(none(), &[("AWS_PROFILE", "shop")]).unwrap(), shop);
        assert_eq!(merged(of("shop"), &[("AWS_ACCESS_KEY_ID", "env")]).unwrap(), shop);
        let environment = [
            ("AWS_PROFILE", "shop"),
            ("AWS_ACCESS_KEY_ID", "env"),
            ("AWS_REGION", "here"),
        ];
        assert_eq!(
            merged(none(), &environment).unwrap(),
            some(["", "", "", "", "https://store.example"])
        );
        let passed = RemoteOptions {
            access_key_id: Some("mine".to_owned()),
            secret_access_key: Some("own".to_owned()),
            region: Some("there".to_owned()),
            ..of("shop")
        };
        assert_eq!(
            merged(passed, &[]).unwrap(),
            some(["mine", "own", "", "there", "https://store.example"])
        );
    }

    #[test]
    fn a_profile_that_cannot_be_used_is_named() {
        assert!(merged(of("none"), &[]).unwrap_err().contains("no profile \"none\""));
        assert!(merged(of("role"), &[]).unwrap_err().contains("role_arn"));
        let role = [("AWS_PROFILE", "role"), ("AWS_ACCESS_KEY_ID", "env")];
        assert_eq!(
            merged(RemoteOptions::default(), &role).unwrap(),
            some(["", "", "", "", ""]),
            "the keys of the environment count"
        );
    }
}
