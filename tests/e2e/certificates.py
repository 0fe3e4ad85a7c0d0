"""Certificates as a test wants them: of any name, any time, any issuer."""

import datetime
import ipaddress
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = datetime.timedelta(days=1)


class Authority:
    """A certificate authority of its own; `path` is its certificate in PEM."""

    def __init__(self, directory, name="A test authority"):
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._n_issued = 0
        directory.mkdir(parents=True, exist_ok=True)
        certificate = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")
        self.path = directory / "ca.crt"
        self.path.write_text(self.certificate, encoding="ascii")

    def _sign(self, subject, key, constraints, alternatives=None, *, since=-2 * DAY, until=2 * DAY):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(now + since).not_valid_after(now + until)
                   .add_extension(constraints, critical=True))
        if alternatives is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def context(self, *names, since=-DAY, until=DAY):
        """An ssl.SSLContext for a server with these host names and addresses, valid for this time around now."""
        self._n_issued += 1
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [x509.IPAddress(ipaddress.ip_address(n)) if n.replace(".", "").isdigit() else x509.DNSName(n)
                        for n in names]
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"server {self._n_issued}")])
        certificate = self._sign(subject, key, x509.BasicConstraints(ca=False, path_length=None), alternatives,
                                 since=since, until=until)
        path = self._directory / f"server-{self._n_issued}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM)
                         + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                             serialization.NoEncryption()))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(path)
        return context
